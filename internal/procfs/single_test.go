// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// One answer by number is what the directory gives: a link longer than the first
// buffer, too, and a cgroup file that does not fit.
func TestSingle(t *testing.T) {
	proc, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("d", 200), strings.Repeat("e", 200))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "100")
	cmd.Dir = long
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if got, err := proc.Readlink(pid, "cwd"); got != long || err != nil {
		t.Errorf("%q, %v, want %q", got, err, long)
	}
	d, err := proc.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want, err := d.ReadFile("cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{CgroupSize, 4} {
		if got, err := proc.CgroupText(pid, make([]byte, size)); string(got) != string(want) || err != nil {
			t.Errorf("with %d bytes: %q, %v, want %q", size, got, err, want)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := proc.Readlink(pid, "exe"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is gone has a link: %v", err)
	}
	if _, err := proc.CgroupText(pid, make([]byte, CgroupSize)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that is gone has cgroups: %v", err)
	}
}
