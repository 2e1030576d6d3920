// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/pidtree"
)

// What an engine knows of a container that does not run, field by field.
func TestStoppedRow(t *testing.T) {
	c := engine.Container{
		Engine: "docker", Name: "web", ID: "3d77", State: engine.Stopped, Restart: "on-failure:3", Reboots: true, StopSignal: "SIGTERM",
		Exit:       &engine.Exit{Code: 137, At: time.Date(2026, 11, 29, 20, 0, 0, 0, time.FixedZone("x", 3600)), OOM: true},
		Supervisor: &engine.Supervisor{Name: "containerd-shim", PID: 7, Start: 8},
	}
	l := &lister{tree: &pidtree.Tree{}}
	rows := []listed{l.row(&c)}
	var b bytes.Buffer
	if err := printList(&b, rows, "json"); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got) != 1 {
		t.Fatal(err, b.String())
	}
	want := map[string]any{
		"name": "web", "engine": "docker", "id": "3d77", "init": nil, "state": "stopped", "pidns": nil, "level": 0.0, "procs": 0.0,
		"visitors": 0.0, "started": nil, "restart": "on-failure:3", "reboots": true, "stop_signal": "SIGTERM",
		"exit":       map[string]any{"code": 137.0, "at": "2026-11-29T19:00:00Z", "oom": true},
		"frozen_by":  nil,
		"supervisor": map[string]any{"name": "containerd-shim", "pid": 7.0},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("%v\nwant %v", got[0], want)
	}
	b.Reset()
	if err := printList(&b, rows, "wide"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if want := "web docker stopped - - 0 0 - - - - on-failure:3 137 (memory) - 3d77 -"; strings.Join(strings.Fields(lines[1]), " ") != want {
		t.Errorf("%q, want %q", lines[1], want)
	}
}

func TestLastExit(t *testing.T) {
	for want, e := range map[string]*lastExit{"-": nil, "0": {}, "7": {Code: 7}, "137 (memory)": {Code: 137, OOM: true}} {
		if got := e.String(); got != want {
			t.Errorf("%+v is %q, want %q", e, got, want)
		}
	}
}

// What may not be known is not told: whose namespaces the caller may not read has
// no number. Such a container had the number 0.
func TestUnknownSpace(t *testing.T) {
	testutil.RequireRoot(t)
	name := "pid:" + strconv.Itoa(box(t).Pid())
	list := func(format string) string {
		cmd := exec.Command("/proc/self/exe", "--run-dir", "/nonexistent", "ls", "-o", format)
		cmd.Args[0] = "outband"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	var all []struct {
		Name  string
		ID    *string
		PIDNS *space
	}
	if err := json.Unmarshal([]byte(list("json")), &all); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range all {
		if found = found || c.Name == name; c.Name == name && (c.ID != nil || c.PIDNS != nil) {
			t.Errorf("%+v", c)
		}
	}
	for line := range strings.Lines(list("wide")) {
		cells := strings.Fields(line)
		if cells[0] == name && (len(cells) < 16 || cells[10] != "-" || cells[len(cells)-2] != "-") {
			t.Error(line)
		}
	}
	if !found {
		t.Errorf("no %s in %+v", name, all)
	}
}
