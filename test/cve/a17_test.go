// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// venom drives a terminal where it is printed raw: it clears the screen, hides,
// turns the direction of writing, and is no UTF-8.
const venom = "\x1b[2J\u202e\u200b\x9b\r\x7f"

// attackVenom is an init whose name is venom, as are its children's arguments.
func attackVenom([]string) error {
	if err := os.WriteFile("/proc/self/comm", []byte(venom), 0); err != nil {
		return err
	}
	point := "/tmp/" + venom
	if err := errors.Join(os.Mkdir(point, 0o755), unix.Mount(venom, point, "tmpfs", 0, "size=1m")); err != nil {
		return err
	}
	_ = os.WriteFile(point+"/full", make([]byte, 2<<20), 0o600)
	if err := os.WriteFile("/etc/resolv.conf", []byte("nameserver "+venom+"\nsearch "+venom+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Println("ready")
	return stay()
}

// unsafeText says what of a text must not reach a terminal; "" if nothing.
func unsafeText(s string) string {
	if !utf8.ValidString(s) {
		return "it is no UTF-8"
	}
	for _, r := range s {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return fmt.Sprintf("it has %U", r)
		}
	}
	return ""
}

// poisoned starts a container all of whose names are venom: host name, process
// name, arguments, environment, cgroup, users, a full file system, name servers.
func poisoned(t *testing.T) (b *box, group string) {
	t.Helper()
	group = filepath.Join(sessionGroup(t, true), "g"+strings.ReplaceAll(venom, "\n", ""))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	b = newBox(t, throwaway.Spec{
		Name: venom, Cgroups: []string{group}, Env: []string{"PATH=/bin", "V" + "=" + venom, venom + "=x", "HOME=/" + venom},
		Workers: [][]string{{"sleep", "infinity", venom}},
	}, append(rig.Attack("venom"), venom))
	if said, ok := b.hear(); !ok || said != "ready" {
		t.Fatalf("%q", said)
	}
	users := "web:x:7:7::/" + venom + ":/bin/" + venom + "\n" + venom + ":x:8:8::/:/bin/sh\n"
	if err := os.WriteFile(b.path("/etc/passwd"), []byte(users), 0o644); err != nil {
		t.Fatal(err)
	}
	return b, group
}

// TestA17 has all verbs speak of a container whose names are written to drive a
// terminal. A mutant that does not escape prints what does.
func TestA17(t *testing.T) {
	begin(t)
	b, group := poisoned(t)
	tool := rig.Build(t)
	const file = "internal/safetext/escape.go"
	mutant := rig.Build(t, rig.Change{File: file, Old: "if visible(s, false) {", New: "if true {"},
		rig.Change{File: file, Old: "if visible(s, true) {", New: "if true {"})
	numbers := strings.Fields(rig.Status(rig.Children(b.Pid())[0], "NSpid"))
	pid, worker, lost := b.pid(), numbers[len(numbers)-1], 0
	for _, args := range [][]string{
		{"inspect", pid}, {"inspect", pid, "1"}, {"inspect", pid, worker}, {"inspect", pid, "-o", "json"}, {"inspect", pid, worker, "-o", "json"},
		{"inspect", venom}, {"inspect", pid, venom}, {"inspect", pid, "-o", venom}, {"inspect", "/proc/" + venom},
		{"doctor", pid}, {"doctor", pid, "-o", "json"}, {"doctor", venom},
		{"enter", pid, "--explain"}, {"enter", pid, "--explain", "-o", "json"}, {"enter", pid, "-u", "web", "--explain"},
		{"enter", pid, "-u", "web", "--explain", "-o", "json"}, {"enter", pid, "-u", "web"}, {"enter", pid, "-u", venom, "true"},
		{"enter", pid, "-u", "web:" + venom, "true"}, {"enter", pid, venom}, {"enter", pid, "-w", "/" + venom, "true"}, {"enter", venom, "true"},
		{"enter", pid, "--only", venom, "true"}, {"enter", pid, "--" + venom, "true"}, {"enter", pid, "-e", venom + "=x", "true"},
		{"enter", "cgroup:/" + venom, "true"}, {"enter", "podman:" + venom, "true"}, {venom}, {"__complete", "enter", ""},
	} {
		r := tool.In(t).Run(args...)
		if bad := unsafeText(r.Out + r.Err); bad != "" || r.Hung {
			t.Errorf("%q: %s: %+v", args, bad, r)
		}
		if args[len(args)-1] == "json" && (r.Code != 0 || !json.Valid([]byte(r.Out))) {
			t.Errorf("%q: no JSON: %+v", args, r)
		}
		if r := mutant.In(t).Run(args...); unsafeText(r.Out+r.Err) != "" {
			lost++
		}
	}
	const most = 10 // others print nothing of it, or as JSON, which is escaped elsewhere
	if lost < most {
		t.Errorf("the mutant prints venom %d times only", lost)
	}
	freeze := filepath.Join(group, "cgroup.freeze")
	if err := os.WriteFile(freeze, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	r := tool.In(t).Run("enter", pid, "true")
	err := os.WriteFile(freeze, []byte("0"), 0)
	if bad := unsafeText(r.Err); err != nil || bad != "" || !strings.Contains(r.Err, `frozen: cgroup /`) {
		t.Errorf("frozen: %v: %s: %+v", err, bad, r)
	}
}

// TestA17True shows that JSON keeps the true names.
func TestA17True(t *testing.T) {
	begin(t)
	b, group := poisoned(t)
	r := rig.Build(t).Run("inspect", b.pid(), "-o", "json")
	var facts struct {
		Confinement struct {
			CgroupRaw []byte `json:"cgroupRaw"`
		}
	}
	if err := json.Unmarshal([]byte(r.Out), &facts); err != nil || !strings.HasSuffix(group, filepath.Base(string(facts.Confinement.CgroupRaw))) ||
		len(facts.Confinement.CgroupRaw) == 0 {
		t.Errorf("%v: %q: %s", err, facts.Confinement.CgroupRaw, r.Out)
	}
}

// TestA17Doctor shows that doctor has seen the venom that it must not print, and
// that JSON keeps it.
func TestA17Doctor(t *testing.T) {
	begin(t)
	b, _ := poisoned(t)
	tool := rig.Build(t)
	if r := tool.In(t).Run("doctor", b.pid()); !strings.Contains(r.Out, `bad   file system /tmp/\x1b[2J`) || !strings.Contains(r.Out, "is no address") {
		t.Errorf("%+v", r)
	}
	r := tool.Run("doctor", b.pid(), "-o", "json")
	var report struct {
		Filesystems []struct {
			PointRaw []byte `json:"pointRaw"`
		}
		Init struct {
			CommRaw []byte `json:"commRaw"`
		}
	}
	if err := json.Unmarshal([]byte(r.Out), &report); err != nil || string(report.Init.CommRaw) != venom {
		t.Errorf("%v: %q: %s", err, report.Init.CommRaw, r.Out)
	}
	points := ""
	for _, f := range report.Filesystems { // the other one is /
		points += string(f.PointRaw)
	}
	if points != "/tmp/"+venom {
		t.Errorf("%q: %s", points, r.Out)
	}
}
