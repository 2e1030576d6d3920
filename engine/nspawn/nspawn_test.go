// SPDX-License-Identifier: Apache-2.0

package nspawn

import (
	"context"
	"os"
	"path/filepath"
	"slices"
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
