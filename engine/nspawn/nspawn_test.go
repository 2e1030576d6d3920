// SPDX-License-Identifier: Apache-2.0

package nspawn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
)

// machine has a container that is registered, one that is not, as systemd-nspawn
// 252 runs it, and a user's program of that name.
func machine() []procfs.Task {
	const program = "systemd-nspawn"
	return []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1},
		{PID: 10, Parent: 1, NSpid: []int{10}, Start: 2, Comm: program, Cmdline: "/usr/bin/systemd-nspawn\x00-D\x00/srv/a\x00-b\x00"},
		{PID: 11, Parent: 10, NSpid: []int{11, 1}, Start: 3, PIDNS: 100},
		{PID: 20, Parent: 1, NSpid: []int{20}, Start: 2, Comm: program, Cmdline: "systemd-nspawn\x00--register=no\x00--keep-unit\x00--private-network\x00" +
			"-q\x00-D\x00/srv/b\x00-M\x00sd2\x00/bin/busybox\x00sleep\x0060\x00"},
		{PID: 21, Parent: 20, NSpid: []int{21, 1}, Start: 4, PIDNS: 200},
		{PID: 30, Parent: 1, NSpid: []int{30}, Start: 2, UID: 1000, Comm: program, Cmdline: "systemd-nspawn\x00-M\x00forged\x00"},
		{PID: 31, Parent: 30, NSpid: []int{31, 1}, Start: 4, PIDNS: 300},
	}
}

func TestList(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, machines)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sd1":   "# This is private data. Do not parse.\nNAME=sd1\nSERVICE=systemd-nspawn\nLEADER=11\n",
		"other": "NAME=other\nSERVICE=libvirt-lxc\nLEADER=21\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := engine.Recorded(root, machine()).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range all {
		names = append(names, all[i].FullName())
	}
	if want := []string{"nspawn:sd1", "nspawn:sd2"}; !slices.Equal(names, want) || all[0].Init.PID != 11 {
		t.Errorf("%q, want %q", names, want)
	} else if all[0].Unmanaged || !all[1].Unmanaged {
		t.Error("who is registered is not told from who is not")
	}
}

func TestNameOf(t *testing.T) {
	for _, test := range []struct {
		want string
		args []string
	}{
		{"x", []string{"systemd-nspawn", "-M", "x", "-D", "/y"}}, {"x", []string{"systemd-nspawn", "-Mx"}}, {"y", []string{"systemd-nspawn", "--directory=/srv/y/"}},
		{"img", []string{"systemd-nspawn", "-i", "/srv/img.raw"}}, {"", []string{"systemd-nspawn", "-D", "/"}}, {"", []string{"systemd-nspawn"}},
	} {
		if got := NameOf(test.args); got != test.want {
			t.Errorf("%q: %q", test.args, got)
		}
	}
}

func FuzzParseMachine(f *testing.F) {
	f.Add("NAME=a\nLEADER=7\n")
	f.Fuzz(func(t *testing.T, text string) {
		if m := ParseMachine(text); m.Leader < 0 {
			t.Errorf("%+v", m)
		}
	})
}

// What starts a machine again when it is to be rebooted: systemd-nspawn itself, or
// its unit where that says so.
func TestReboots(t *testing.T) {
	const template = "[Service]\nExecStart=systemd-nspawn --quiet --keep-unit --boot --machine=%i\nRestartForceExitStatus=133\nSuccessExitStatus=133\n"
	keeps := "systemd-nspawn\x00--quiet\x00--keep-unit\x00--boot\x00-M\x00m\x00"
	for what, test := range map[string]struct {
		line, group string
		files       map[string]string
		restart     string
		reboots     bool
	}{
		"by itself":     {line: "systemd-nspawn\x00-M\x00m\x00", reboots: true},
		"nobody":        {line: keeps, group: "/user.slice"},
		"unit is gone":  {line: keeps, group: "/machine.slice/m.service"},
		"template":      {keeps, "/machine.slice/systemd-nspawn@m.service/supervisor", map[string]string{"usr/lib/systemd/system/systemd-nspawn@.service": template}, "", true},
		"covered":       {keeps, "/x/systemd-nspawn@m.service", map[string]string{"usr/lib/systemd/system/systemd-nspawn@.service": template, "etc/systemd/system/systemd-nspawn@m.service": "[Service]\n"}, "", false},
		"dropped in":    {keeps, "/x/systemd-nspawn@m.service", map[string]string{"usr/lib/systemd/system/systemd-nspawn@.service": template, "etc/systemd/system/systemd-nspawn@.service.d/a.conf": "[Service]\nRestartForceExitStatus=\n"}, "", false},
		"always":        {keeps, "/x/m.service", map[string]string{"etc/systemd/system/m.service": "[Service]\nRestart=no\nRestart=always\n"}, "always", true},
		"prevented":     {keeps, "/x/m.service", map[string]string{"etc/systemd/system/m.service": "[Service]\nRestart=always\nRestartPreventExitStatus=1 133\n"}, "always", false},
		"only success":  {keeps, "/x/m.service", map[string]string{"etc/systemd/system/m.service": "[Service]\nRestart=on-success\n"}, "on-success", false},
		"other section": {keeps, "/x/m.service", map[string]string{"etc/systemd/system/m.service": "[Unit]\nRestart=always\n"}, "", false},
	} {
		root := t.TempDir()
		if test.group != "" {
			put(t, filepath.Join(root, "proc/10/cgroup"), "1:name=systemd:"+test.group+"\n")
		}
		for path, text := range test.files {
			put(t, filepath.Join(root, path), text)
		}
		tasks := machine()[:3]
		tasks[1].Cmdline = test.line
		all, err := engine.Recorded(root, tasks).List(context.Background(), []engine.Engine{Engine{}})
		if err != nil || len(all) != 1 || all[0].Restart != test.restart || all[0].Reboots != test.reboots {
			t.Errorf("%s: %+v, %v", what, all, err)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// A machine that does not run is listed by what it would be started from.
func TestStopped(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"etc/machines/b.raw", "var/lib/machines/file", "var/lib/machines/.#tmp/x", "var/lib/machines/b/x", "var/lib/machines/a/x", "var/lib/machines/sd2/x"} {
		put(t, filepath.Join(root, path), "")
	}
	if err := os.Symlink("a", filepath.Join(root, "var/lib/machines/link")); err != nil {
		t.Fatal(err)
	}
	all, err := engine.Recorded(root, machine()).List(context.Background(), []engine.Engine{Engine{}})
	var got []string
	for i := range all {
		got = append(got, all[i].FullName()+" "+string(all[i].State))
	}
	// A link counts as what it leads to; /srv/a is running, whatever else is called so.
	if want := []string{"nspawn:a running", "nspawn:b stopped", "nspawn:link stopped", "nspawn:sd2 running"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestStopSignal(t *testing.T) {
	for line, want := range map[string]string{
		"systemd-nspawn -b -D /srv/a": "SIGRTMIN+3", "systemd-nspawn -D /srv/a --boot": "SIGRTMIN+3", "systemd-nspawn -qb -D /a": "SIGRTMIN+3",
		"systemd-nspawn -D /srv/a /bin/sh -b": "", "systemd-nspawn -D b": "", "systemd-nspawn --kill-signal=SIGTERM -b": "SIGTERM",
		"systemd-nspawn -Mab": "", "systemd-nspawn": "", "systemd-nspawn -q -- -b": "",
	} {
		if got := StopSignal(strings.Fields(line)); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
