// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BusyboxRoot builds a root file system of a static busybox, with a link for
// each of its applets, and returns its directory. Users other than root can
// reach it.
func BusyboxRoot(t testing.TB) string {
	t.Helper()
	busybox := RequireCommand(t, "busybox", "busybox-static")
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("/ld-linux")) {
		missing(t, "needs a static busybox (package busybox-static)")
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := openDir(t)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	err = errors.Join(err,
		os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755),
		os.WriteFile(filepath.Join(root, "etc/passwd"),
			[]byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), 0o644),
		os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"), 0o644))
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			err = errors.Join(err, os.Symlink("busybox", filepath.Join(root, "bin", name)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// dirPrefix starts the names of directories that are made here.
const dirPrefix = "outband-test-"

// openDir makes a directory that every user may enter, unlike t.TempDir, and
// that is removed only if nothing is mounted below it: removing would go
// through the mount.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, line := range readLines("/proc/self/mountinfo") {
			if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4]+"/", dir+"/") {
				t.Errorf("%s is still a mount: %s is left", fields[4], dir)
				return
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
