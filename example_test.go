// SPDX-License-Identifier: Apache-2.0

package outband_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/outband/outband"
	"github.com/outband/outband/ns"
)

// A command in a container, confined as the container is.
func Example() {
	ctx := context.Background()
	t, err := outband.Open(ctx, "pid:1234")
	if err != nil {
		fmt.Println(err, outband.Hint(err))
		return
	}
	defer t.Close()
	out, err := t.Command("ps", "ax").Output()
	fmt.Printf("%s%v\n", out, err)
}

// What would be done, before it is.
func ExampleCmd_Plan() {
	t, err := outband.OpenPID(context.Background(), 1234)
	if err != nil {
		return
	}
	defer t.Close()
	c := t.Command("id")
	c.User = &outband.User{UID: 1000, GID: 1000}
	c.Only = []ns.Kind{ns.PID, ns.Mount, ns.User}
	plan, err := c.Plan()
	if err != nil {
		return
	}
	fmt.Println(plan.Join, plan.UID, plan.Capability.Bounding, plan.Notes)
}

// Streams as in os/exec: they are relayed, no descriptor goes in.
func ExampleTarget_CommandContext() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t, err := outband.Open(ctx, "cgroup:/lab/web")
	if err != nil {
		return
	}
	defer t.Close()
	c := t.CommandContext(ctx, "tail", "-f", "/var/log/messages")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return
	}
	fmt.Println("its numbers, outermost first:", c.Process.PIDs())
	cancel() // ends the command and all it left behind
	err = c.Wait()
	var exit *outband.ExitError
	if errors.As(err, &exit) {
		fmt.Println("ended by", exit.Signal())
	}
}

// Errors are told apart by what they are; the way out stands beside.
func ExampleHint() {
	_, err := outband.Open(context.Background(), "nobodys:web")
	fmt.Println(err)
	fmt.Println(errors.Is(err, outband.ErrInvalid), errors.Is(err, fs.ErrPermission))
	fmt.Printf("%q\n", outband.Hint(&outband.LossError{Losses: []outband.Loss{outband.LossSeccomp}}))
	// Output:
	// not the name of a container: nobodys:web: there is no engine called "nobodys"
	// true false
	// "to enter without, say so: --accept-loss seccomp"
}

// A command runs as a user of the container, found in its own tables.
func ExampleTarget_LookupUser() {
	ctx := context.Background()
	t, err := outband.Open(ctx, "pid:1234")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	c := t.CommandContext(ctx, "id")
	if c.User, err = t.LookupUser(ctx, "www-data:adm"); err != nil {
		fmt.Println(err, outband.Hint(err))
	}
}

func ExampleParseLosses() {
	losses, err := outband.ParseLosses("seccomp,lsm")
	fmt.Println(losses, err)
	// Output: [seccomp lsm] <nil>
}
