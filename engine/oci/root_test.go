// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

func TestParseConmon(t *testing.T) {
	for line, want := range map[string]Root{
		"conmon -r /usr/bin/crun --runtime-arg --root=/srv/crun -b /b":                                 {"crun", "/srv/crun"},
		"conmon --runtime-arg --log=/x --runtime-arg --root --runtime-arg /a --runtime=/usr/sbin/runc": {"runc", "/a"},
		"conmon --runtime-arg=--root=/a -r runc":                                                       {"runc", "/a"},
		"conmon -r /usr/bin/crun --exit-command-arg --root --exit-command-arg /var/lib":                {},
		"conmon -r /usr/bin/crun --root /a":                                                            {},
		"conmon --runtime-arg":                                                                         {},
		"conmon":                                                                                       {},
	} {
		if got := ParseConmon(strings.Fields(line)); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// put makes a file of state.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// Roots elsewhere are found on the command lines of root's runtimes on the host,
// and of nobody else's (A20).
func TestToldRoots(t *testing.T) {
	root := t.TempDir() + "/host"
	put(t, root+"srv/rt/web/state.json", `{"id":"web","init_process_pid":7,"init_process_start":5}`) // where a relative path would lead
	put(t, root+"/etc/passwd", "ann:x:1000:1000::/home/ann:/bin/sh\n")
	put(t, root+"/srv/rt/web/state.json", `{"id":"web","init_process_pid":7,"init_process_start":5}`)
	put(t, root+"/srv/rt/job/status", `{"pid":7,"process-start-time":5,"bundle":"/b"}`)
	init := procfs.Task{PID: 7, NSpid: []int{7, 1}, Start: 5, PIDNS: 1}
	runtime := func(line string) procfs.Task {
		args := strings.Fields(line)
		return procfs.Task{PID: 8, NSpid: []int{8}, Comm: filepath.Base(args[0]), Cmdline: strings.Join(args, "\x00") + "\x00"}
	}
	inside, other, named := runtime("runc --root /srv/rt run web"), runtime("runc --root /srv/rt run web"), runtime("runc --root /srv/rt run web")
	inside.NSpid, other.UID, named.Comm = []int{8, 2}, 1000, "cat"
	for what, row := range map[string]struct {
		task procfs.Task
		want []string
	}{
		"runc":                {runtime("runc --root /srv/rt run web"), []string{"runc:web running --root=/srv/rt"}},
		"crun":                {runtime("/usr/bin/crun --root=/srv/rt run job"), []string{"crun:job running --root=/srv/rt"}},
		"conmon":              {runtime("conmon -r /x/runc --runtime-arg --root=/srv/../srv/rt/"), []string{"runc:web running --root=/srv/rt"}},
		"in a container":      {inside, nil},
		"a user's":            {other, nil},
		"not runc's own name": {named, nil},
		"a relative path":     {runtime("runc --root srv/rt run web"), nil},
		"no root":             {runtime("runc run web"), nil},
		"nothing there":       {runtime("runc --root /srv/none run web"), nil},
		"another program":     {runtime("cat --root /srv/rt"), nil},
	} {
		h := engine.Recorded(root, []procfs.Task{init, row.task})
		if got := described(t, h, Engine{}); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", what, got, row.want)
		}
	}
	h := engine.Recorded(root, []procfs.Task{init})
	if got, want := described(t, h, Engine{Roots: []Root{{"crun", "/srv/rt"}}}), []string{"crun:job running --root=/srv/rt"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// described are the containers that an engine has on a host.
func described(t *testing.T, h *engine.Host, e Engine) (all []string) {
	t.Helper()
	list, err := e.List(t.Context(), h)
	if err != nil {
		t.Error(err)
	}
	for _, c := range list {
		all = append(all, strings.Join(append([]string{c.FullName(), string(c.State)}, c.Via...), " "))
	}
	return all
}

// The roots that docker and containerd give to runc are looked into for one that is
// sought and that is not runc's own; of others nothing is read.
func TestAbove(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"docker/runtime-runc/moby/ab12", "containerd/runc/default/web", "containerd/runc/default/other", "runc/other"} {
		put(t, root+"/run/"+path+"/state.json", `{"id":"x"}`)
	}
	put(t, root+"/run/containerd/runc/default/broken/state.json", `{`)
	for sought, want := range map[string][]string{
		"ab":  {"runc:ab12 stopped --root=/run/docker/runtime-runc/moby"},
		"web": {"runc:web stopped --root=/run/containerd/runc/default"}, "other": {"runc:other stopped"}, "": {"runc:other stopped"},
	} {
		h := engine.Recorded(root, nil).Seek(sought, "")
		if got := described(t, h, Engine{}); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", sought, got, want)
		}
	}
}

// TestRootElsewhere: a container of the real runc's whose root is in a directory
// that nobody knows has no name; it has where the caller knows it, and as long as a
// runc waits for what it runs there.
func TestRootElsewhere(t *testing.T) {
	testutil.NoLeaks(t)
	c := testutil.RunC(t)
	want := "runc:" + c.ID
	found := func(e Engine) bool {
		all, err := engine.List(t.Context(), []engine.Engine{e})
		if err != nil {
			t.Log(err)
		}
		return slices.ContainsFunc(all, func(f engine.Container) bool {
			return f.FullName() == want && f.Init.PID == c.Pid && slices.Equal(f.Via, []string{"--root=" + c.Root})
		})
	}
	if found(Engine{}) {
		t.Errorf("%s is known", want)
	}
	if !found(Engine{Roots: []Root{{"runc", c.Root}}}) {
		t.Errorf("%s is not found where the caller knows it", want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "runc", "--root", c.Root, "exec", c.ID, "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err := errors.Join(err, oerr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	_, err = in.Write([]byte("x")) // that it comes back tells that cat runs
	_, rerr := io.ReadFull(out, make([]byte, 1))
	if err := errors.Join(err, rerr); err != nil || !found(Engine{}) {
		t.Errorf("%s is not found while runc runs: %v", want, err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	if found(Engine{}) {
		t.Errorf("%s is still known", want)
	}
}
