// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// criBuild bounds the build of test/cri, with its modules not there yet.
	criBuild = 5 * time.Minute
	// criSpace is the namespace of pods, as Kubernetes has them.
	criSpace = "lab"
	// criSocket is where containerd listens by default.
	criSocket = "/run/containerd/containerd.sock"
)

// criConfig is containerd's: the image that holds a pod's namespaces is the lab's
// own, and the node's limits stay as they are.
const criConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:latest"
  restrict_oom_score_adj = true
  disable_apparmor = true
`

// CRI is containerd with pods, as the kubelet makes them: a container called NAME
// is the only one of the pod pod-NAME.
func CRI() *Engine {
	call := func(verb string, more ...string) func(string) []string {
		return func(name string) []string {
			return append([]string{"criclient", criSocket, verb, criSpace, "pod-" + name, name}, more...)
		}
	}
	return &Engine{
		Name: "cri", version: []string{"containerd", "--version"},
		Needs: []Program{{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"}, {"go", "golang"}},
		setup: setupCRI, run: runCRI, exec: call("exec"), remove: call("remove"), pid: call("pid"),
		words: map[Verb]func(string) []string{
			Stop: call("stop"), Again: call("run", (&Image{Name: "busybox"}).reference()), // the old one is kept
		},
	}
}

// criClient is the program of test/cri, built once.
var criClient = sync.OnceValues(func() (program []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), criBuild)
	defer cancel()
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/outband/outband").Output()
	if err != nil {
		return nil, fmt.Errorf("find test/cri: %w", err)
	}
	dir, err := os.MkdirTemp("", "outband-cri-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "criclient")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, ".")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), "test/cri")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build test/cri: %w: %s", err, said)
	}
	return os.ReadFile(path)
})

func setupCRI(ctx context.Context, h *Host) error {
	const config = "/etc/containerd/config.toml"
	program, err := criClient()
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(h.Path("/usr/local/bin/criclient"), program, 0o755),
		os.MkdirAll(h.Path(filepath.Dir(config)), 0o755), os.WriteFile(h.Path(config), []byte(criConfig), 0o644))
	if err != nil {
		return err
	}
	return h.daemon(ctx, h.Command("containerd"), "criclient", criSocket, "ready")
}

// pauseImage is what holds a pod's namespaces.
func pauseImage() (*Image, error) {
	image, err := ScratchImage()
	if err == nil {
		image.Name = "pause"
	}
	return image, err
}

func runCRI(ctx context.Context, h *Host, name string, image *Image, o Options) (int, error) {
	if len(o.Extra) > 0 || o.Filters > 0 {
		return 0, ErrNotOffered
	}
	pause, err := pauseImage()
	if err != nil {
		return 0, err
	}
	for _, image := range []*Image{pause, image} {
		load, err := h.load(image, "ctr", "--namespace=k8s.io", "images", "import")
		if err == nil && load != nil {
			_, err = load.output(ctx)
		}
		if err != nil {
			return 0, err
		}
	}
	args := []string{"criclient", criSocket, "run"}
	if o.NoMkdir {
		path, err := h.noMkdirFile()
		if err != nil {
			return 0, err
		}
		args = append(args, "-seccomp", path)
	}
	args = append(args, criSpace, "pod-"+name, name, image.reference())
	return number(h.Do(ctx, append(args, o.Args...)...))
}
