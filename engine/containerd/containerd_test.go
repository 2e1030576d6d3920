// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// machine is the processes of the machine on which testdata/host was recorded:
// containerd 1.6.20 with a container, and one with the annotations of a pod's.
func machine() []procfs.Task {
	return []procfs.Task{
		{PID: 1, NSpid: []int{1}, Start: 1},
		{PID: 24300, Parent: 1, NSpid: []int{24300}, Start: 2, Comm: "containerd", Cmdline: "containerd\x00--config\x00/srv/cd/config.toml\x00"},
		{PID: 24470, Parent: 24444, NSpid: []int{24470, 1}, Start: 3, PIDNS: 4026532328},
		{PID: 24516, Parent: 24495, NSpid: []int{24516, 1}, Start: 4, PIDNS: 4026532401},
	}
}

func TestList(t *testing.T) {
	root := testutil.Private(t, "testdata/host")
	h := engine.Recorded(root, machine())
	all, err := h.List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].FullName() != "containerd:default/c1" || all[0].Init.PID != 24470 || all[0].State != engine.Running {
		t.Errorf("%+v", all[0])
	}
	if all[1].FullName() != "pod:shop/cart/app" || all[1].Init.PID != 24516 || all[1].ID != "p1" {
		t.Errorf("%+v", all[1])
	}
	// Another process with the number, in another cgroup.
	if err := os.WriteFile(filepath.Join(root, "proc/24470/cgroup"), []byte("0::/default/c2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err = h.List(context.Background(), []engine.Engine{Engine{}})
	if err != nil || all[0].State != engine.Stopped || all[0].Init.PID != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestParseConfig(t *testing.T) {
	for text, want := range map[string]string{
		"state = \"/srv/state\"\n": "/srv/state", "version = 2\n  state='/a b'\n": "/a b", "": "", "state = 7": "", "[x]\nstate = \"/y\"": "",
		"# state = \"/x\"\n": "", "states = \"/x\"": "",
	} {
		if got := ParseConfig(text, "state"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestParseSpec(t *testing.T) {
	pod := func(kind, namespace, sandbox, name string) string {
		return `{"annotations":{"` + podType + `":"` + kind + `","` + podNamespace + `":"` + namespace + `","` + podName + `":"` + sandbox + `","` + podContainer + `":"` + name + `"}}`
	}
	for text, want := range map[string]string{
		pod("container", "shop", "cart", "app"): "shop/cart/app", pod("sandbox", "shop", "cart", ""): "shop/cart/POD", pod("container", "shop", "cart", ""): "",
		pod("container", "a/b", "cart", "app"): "", "{}": "", `{"annotations":null}`: "",
	} {
		if got, err := ParseSpec([]byte(text)); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if _, err := ParseSpec([]byte("[")); err == nil {
		t.Error("what is no JSON is taken for it")
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"annotations":{"io.kubernetes.cri.container-name":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pod, err := ParseSpec(b); err == nil && pod != "" && strings.Count(pod, "/") != 2 {
			t.Errorf("%q", pod)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add("state = \"/x\"")
	f.Fuzz(func(t *testing.T, text string) {
		if dir := ParseConfig(text, "state"); dir != "" && !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool { return strings.Contains(l, "state") }) {
			t.Errorf("%q", dir)
		}
	})
}
