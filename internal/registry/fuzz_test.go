// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRecord takes any text through a record, a listing and the log.
func FuzzRecord(f *testing.F) {
	f.Add("docker:web", "sh", "exit 0")
	f.Add("\xff\x1b[2J", "\u202e\n", `","target":"`)
	r := open(f, filepath.Join(tempDir(f), "outband"))
	r.auditMax = 1 // a log for each line
	f.Fuzz(func(t *testing.T, target, arg, how string) {
		e := begin(t, r, Record{Target: target, Command: []string{arg}, By: By{Cwd: arg, SSH: how}})
		rec := live(t, r)[0]
		if rec.Target != target || rec.Command[0] != arg || rec.By.Cwd != arg || rec.By.SSH != how {
			t.Errorf("listed %+v", rec)
		}
		if err := e.End(Outcome{How: how}); err != nil {
			t.Fatal(err)
		}
		if l := logLines(t, filepath.Join(r.path, auditName)); len(l) != 1 || l[0].ID != rec.ID {
			t.Errorf("log: %+v", l)
		}
	})
}

// FuzzSweep has any content for a record: it goes, and the log stays a log.
func FuzzSweep(f *testing.F) {
	const id = "1s0hgh5ss5"
	whole := `{"id":"1s0hgh5ss5","started":"2026-01-02T03:04:05Z","target":"web"}` + "\n"
	for _, s := range []string{"", "\n", whole, whole[:30], whole + whole[:30],
		whole[:len(whole)-2] + `,"ended":"2026-01-02T03:04:06Z","how":"exit 0"}` + "\n", "[]\n", "{}\n", "null\n", `{"id":1}` + "\n"} {
		f.Add([]byte(s))
	}
	r := open(f, filepath.Join(tempDir(f), "outband"))
	r.auditMax = 1
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.RemoveAll(filepath.Join(r.path, auditName)); err != nil {
			t.Fatal(err)
		}
		writeOld(t, r.recordPath(id), string(content))
		n, err := r.Sweep()
		if err != nil || len(records(t, r)) > 0 {
			t.Fatalf("swept %d, %v; left %v", n, err, records(t, r))
		}
		l := logLines(t, filepath.Join(r.path, auditName))
		if len(l) != n || n > 0 && l[0].ID != id {
			t.Errorf("swept %d, log: %+v", n, l)
		}
		p, err := parse(id, content)
		if err == nil && p != nil && (!json.Valid(p.line) || bytes.ContainsAny(p.line, "\x1b\n")) {
			t.Errorf("line: %q", p.line)
		}
	})
}
