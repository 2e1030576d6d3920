// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/bolt"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// recorded is the database of containerd 1.6.20 with two containers: of "named" a
// task ran, "never" was never started.
func recorded(t testing.TB) []byte { return testutil.Gunzip(t, "testdata/meta.db.gz") }

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// What has no task does not run; of what has one, the database has the rest.
func TestStored(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	put(t, filepath.Join(root, "var/lib/containerd", database), recorded(t))
	task := filepath.Join(root, "run/containerd", tasks, "default/named")
	put(t, filepath.Join(task, "init.pid"), []byte("70"))
	put(t, filepath.Join(task, "config.json"), []byte("{}"))
	put(t, filepath.Join(root, "proc/70/cgroup"), []byte("0::/default/named\n"))
	h := engine.Recorded(root, []procfs.Task{{PID: 70, NSpid: []int{70, 1}, Start: 9}})
	all, err := h.List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if c := all[0]; c.FullName() != "containerd:default/named" || c.State != engine.Running || c.Restart != "" || c.StopSignal != "SIGTERM" {
		t.Errorf("%+v", c)
	}
	if c := all[1]; c.FullName() != "containerd:default/never" || c.State != engine.Stopped || c.Restart != "on-failure:3" || c.StopSignal != "SIGTERM" {
		t.Errorf("%+v", c)
	}
	put(t, filepath.Join(root, "var/lib/containerd", database), []byte("broken"))
	all, err = h.List(context.Background(), []engine.Engine{Engine{}})
	if !errors.Is(err, bolt.ErrFormat) || len(all) != 1 || all[0].State != engine.Running {
		t.Errorf("%+v, %v", all, err)
	}
}

// restless is a file whose beginning is another at each read.
type restless struct{ *bytes.Reader }

func (r restless) ReadAt(b []byte, at int64) (int, error) {
	n, err := r.Reader.ReadAt(b, at)
	if at < 8192 && n > 16 {
		b[16] ^= 1 // no beginning is whole
	}
	return n, err
}

func TestReadStored(t *testing.T) {
	if all, err := readStored(t.Context(), bytes.NewReader(recorded(t))); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := readStored(t.Context(), restless{bytes.NewReader(recorded(t))}); err == nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestOfLabels(t *testing.T) {
	pod := map[string]string{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "cart"}
	with := func(more ...string) map[string][]byte {
		labels := map[string][]byte{}
		for k, v := range pod {
			labels[k] = []byte(v)
		}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = []byte(more[i+1])
		}
		return labels
	}
	for _, test := range []struct {
		labels        map[string][]byte
		name, restart string
	}{
		{nil, "containerd:default/c", ""},
		{with(), "containerd:default/c", ""},
		{with("io.kubernetes.container.name", "app"), "pod:shop/cart/app", ""},
		{with("io.kubernetes.container.name", "a/b"), "containerd:default/c", ""},
		{with("io.cri-containerd.kind", "sandbox"), "pod:shop/cart/POD", ""},
		{map[string][]byte{"containerd.io/restart.status": []byte("running")}, "containerd:default/c", "always"},
		{map[string][]byte{"containerd.io/restart.status": []byte("stopped"), "containerd.io/restart.policy": []byte("always")}, "containerd:default/c", ""},
		{map[string][]byte{"containerd.io/restart.status": []byte("running"), "containerd.io/restart.policy": []byte("unless-stopped")}, "containerd:default/c", "unless-stopped"},
	} {
		if c := ofLabels("default", "c", test.labels); c.FullName() != test.name || c.Restart != test.restart || c.Via != nil {
			t.Errorf("%q: %s, %q", test.labels, c.FullName(), c.Restart)
		}
	}
	if c := ofLabels("other", "c", nil); len(c.Via) != 1 || c.Via[0] != "--namespace=other" {
		t.Errorf("%q", c.Via)
	}
}
