// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"strings"
	"testing"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/test/lab"
)

// TestPods: a pod's containers are named by namespace, pod and container. The name
// of the pod is enough where it has one; what holds its namespaces is none of them,
// whatever else runs.
func TestPods(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	host := open(t, lab.CRI(), build(t))
	c, err := host.Run(t.Context(), "web", lab.Busybox(t), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &known{target: &target{Container: c, host: host}, full: "pod:lab/pod-web/web"}
	const pod, sandbox = "pod:lab/pod-web", "pod:lab/pod-web/POD"
	for _, name := range []string{pod, k.full} {
		if pid, err := k.leadsTo(t, name); err != nil || pid != c.HostPid {
			t.Errorf("%s leads to %d, %v, not to %d", name, pid, err, c.HostPid)
		}
	}
	if r := k.run(t, host.Command(outband, "enter", pod, "--", "id", "-u")); r.Code != 0 || r.Out != "0\n" {
		t.Errorf("enter: %+v", r)
	}
	out, err := host.Do(t.Context(), outband, "ls", "-o", "name")
	if want := sandbox + "\n" + k.full + "\n"; err != nil || out != want {
		t.Errorf("ls: %q, %v, want %q", out, err, want)
	}
	holder, err := k.leadsTo(t, sandbox)
	if err != nil || holder == c.HostPid {
		t.Errorf("%s leads to %d, %v", sandbox, holder, err)
	}
	t.Run("two", func(t *testing.T) { podOfTwo(t, k, pod) })
	t.Run("stopped", func(t *testing.T) { podStopped(t, k, pod) })
}

// podOfTwo: with another container in it, the pod's name is refused with the
// choices.
func podOfTwo(t *testing.T, k *known, pod string) {
	call := func(verb string, more ...string) {
		args := append([]string{"criclient", "/run/containerd/containerd.sock", verb, "lab", "pod-web", "side"}, more...)
		if _, err := k.host.Do(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	call("run", "docker.io/lab/busybox:latest")
	pid, err := k.leadsTo(t, pod)
	if err == nil || !strings.Contains(err.Error(), "more than one container") ||
		!strings.Contains(err.Error(), ": pod:lab/pod-web/side, pod:lab/pod-web/web") {
		t.Errorf("%s leads to %d, %v", pod, pid, err)
	}
	call("remove")
	if pid, err := k.leadsTo(t, pod); err != nil || pid != k.HostPid {
		t.Errorf("alone again: %d, %v", pid, err)
	}
}

// podStopped: when its only container has ended, the pod's name is that of one that
// does not run, and never the sandbox's; of those that ended one is listed, and none
// beside the one that runs.
func podStopped(t *testing.T, k *known, pod string) {
	last := k.HostPid
	for range 2 { // lives
		if err := k.Do(t.Context(), lab.Stop); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{pod, k.full} {
			errorOf(t, k.run(t, k.host.Command(outband, "enter", name, "--", "true")), "not running")
		}
		if rows := k.list(t, called(k.full), "-a"); len(rows) != 1 || rows[0].State != "stopped" {
			t.Errorf("stopped: %+v", rows)
		}
		next, err := k.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if pid, err := k.leadsTo(t, pod); err != nil || pid != next.HostPid || pid == last {
			t.Errorf("%s leads to %d, %v, not to %d", pod, pid, err, next.HostPid)
		}
		if rows := k.list(t, called(k.full), "-a"); len(rows) != 1 || rows[0].Init == nil {
			t.Errorf("again: %+v", rows)
		}
		last = next.HostPid
	}
}
