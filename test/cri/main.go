// SPDX-License-Identifier: Apache-2.0

// Command criclient makes containers of pods as the kubelet does: through the
// container runtime interface, with the labels that the kubelet writes.
//
//	criclient SOCKET run [-seccomp FILE] NAMESPACE POD CONTAINER IMAGE [ARG…]
//	criclient SOCKET pid|stop|remove NAMESPACE POD CONTAINER
//	criclient SOCKET exec NAMESPACE POD CONTAINER COMMAND [ARG…]
//	criclient SOCKET ready
//
// Run makes the pod if it is not there, and prints the number of the container's
// first process. Of a container that has ended it makes another under its name, in
// the same pod, and keeps the old one. Remove takes all that have the name, and the
// pod with its last container.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// deadline bounds all of a call; the lab's own are longer than most need.
const deadline = 60 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "criclient:", err)
		code = 1
	}
	os.Exit(code)
}

// verbs are what can be asked for, with how many arguments at least.
var verbs = map[string]struct {
	least int
	do    func(ctx context.Context, c *client, args []string) (int, error)
}{
	"ready": {0, ready}, "run": {4, start}, "pid": {3, pid}, "stop": {3, stop}, "remove": {3, remove}, "exec": {4, execute},
}

func run(ctx context.Context, args []string) (code int, err error) {
	if len(args) < 2 {
		return 2, fmt.Errorf("usage: criclient SOCKET VERB …")
	}
	verb, ok := verbs[args[1]]
	rest := args[2:]
	seccomp := ""
	if len(rest) > 1 && rest[0] == "-seccomp" {
		seccomp, rest = rest[1], rest[2:]
	}
	if !ok || len(rest) < verb.least {
		return 2, fmt.Errorf("%s: no such verb, or not enough arguments", args[1])
	}
	conn, err := grpc.NewClient("unix://"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 1, err
	}
	defer conn.Close()
	c := &client{runtime.NewRuntimeServiceClient(conn), runtime.NewImageServiceClient(conn), seccomp}
	return verb.do(ctx, c, rest)
}

// client is both services of the interface.
type client struct {
	runtime.RuntimeServiceClient
	images  runtime.ImageServiceClient
	seccomp string // a profile's file; "" for the engine's own
}

// ready asks whether the interface is served.
func ready(ctx context.Context, c *client, _ []string) (int, error) {
	_, err := c.Version(ctx, &runtime.VersionRequest{})
	return 0, err
}
