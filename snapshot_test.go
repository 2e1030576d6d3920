// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// A snapshot is recorded, of a process that is held still meanwhile, by
//
//	go test -run TestRecord -record NAME=PID,NAME=self…
var record = flag.String("record", "", "processes to record in testdata/snapshot, as `NAME=PID,…`")

// recorded is what /proc shows of a process: the content of its files by name,
// with environ one entry a line, and its links ns/KIND.
type recorded map[string]string

// recordedFiles are those that a snapshot is made of.
var recordedFiles = []string{"status", "limits", "oom_score_adj", "attr/current", "uid_map", "gid_map", "setgroups", "cgroup", "environ"}

func recordPath(name string) string { return filepath.Join("testdata", "snapshot", name+".txtar") }

func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("skipped: records only when asked to by -record")
	}
	for pair := range strings.SplitSeq(*record, ",") {
		name, pid, _ := strings.Cut(pair, "=")
		if err := os.WriteFile(recordPath(name), txtar.Format(take(t, name, "/proc/"+pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// take reads the /proc directory of a process.
func take(t *testing.T, name, dir string) *txtar.Archive {
	t.Helper()
	a := &txtar.Archive{Comment: []byte("What /proc shows of a process: " + name + ". See snapshot_test.go.\n")}
	add := func(file, content string) { a.Files = append(a.Files, txtar.File{Name: file, Data: []byte(content)}) }
	for _, file := range recordedFiles {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil && file != "attr/current" {
			t.Fatal(err)
		}
		if file == "environ" && dir == "/proc/self" {
			b = nil // the caller's plays no part
		}
		if file == "environ" {
			b = bytes.ReplaceAll(b, []byte{0}, []byte("\n"))
		}
		add(file, string(b))
	}
	for _, kind := range ns.Kinds() {
		link, err := os.Readlink(filepath.Join(dir, "ns", kind.String()))
		if err != nil {
			t.Fatal(err)
		}
		add("ns/"+kind.String(), link+"\n")
	}
	return a
}

// load reads what was recorded.
func load(t testing.TB, name string) recorded {
	t.Helper()
	a, err := txtar.ParseFile(recordPath(name))
	if err != nil {
		t.Fatal(err)
	}
	r := recorded{}
	for _, file := range a.Files {
		r[file.Name] = string(file.Data)
	}
	return r
}

func (r recorded) setStatus(t testing.TB, key, value string) {
	t.Helper()
	_, rest, ok := strings.Cut(r["status"], "\n"+key+":\t")
	old, _, _ := strings.Cut(rest, "\n")
	if !ok {
		t.Fatalf("status has no line %s", key)
	}
	r["status"] = strings.Replace(r["status"], "\n"+key+":\t"+old+"\n", "\n"+key+":\t"+value+"\n", 1)
}

// namespaces are those of the recorded links.
func (r recorded) namespaces(t testing.TB) (set ns.Set) {
	t.Helper()
	for _, kind := range ns.Kinds() {
		if _, err := fmt.Sscanf(r["ns/"+kind.String()], kind.String()+":[%d]", &set[kind]); err != nil {
			t.Fatal(err)
		}
	}
	return set
}

// state parses what a process may do.
func (r recorded) state(t testing.TB) (procfs.Status, confine.State, []procfs.Group) {
	t.Helper()
	status, err := procfs.ParseStatus([]byte(r["status"]))
	if err != nil {
		t.Fatal(err)
	}
	limits, err := procfs.ParseLimits([]byte(r["limits"]))
	if err != nil {
		t.Fatal(err)
	}
	state, err := confine.Parse(status, limits, []byte(r["oom_score_adj"]), []byte(r["attr/current"]))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := procfs.ParseGroups([]byte(r["cgroup"]))
	if err != nil {
		t.Fatal(err)
	}
	return status, state, groups
}

// snapshotOf is the snapshot of a target's init as the caller self sees it. It
// is made of what was recorded alone.
func snapshotOf(t testing.TB, target, self recorded) *snapshot {
	t.Helper()
	s := &snapshot{namespaces: target.namespaces(t), own: self.namespaces(t)}
	s.status, s.state, s.groups = target.state(t)
	s.ownStatus, s.ownState, s.ownGroups = self.state(t)
	for file, m := range map[string]*procfs.IDMap{"uid_map": &s.uids, "gid_map": &s.gids} {
		var err error
		if *m, err = procfs.ParseIDMap([]byte(target[file])); err != nil {
			t.Fatal(err)
		}
	}
	s.inside = s.state.Translate(s.uids, s.gids)
	s.denied = target["setgroups"] == "deny\n"
	s.env = procfs.Strings([]byte(strings.ReplaceAll(target["environ"], "\n", "\x00")))
	return s
}
