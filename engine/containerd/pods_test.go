// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/internal/testutil"
)

// kubelet is a machine on which containerd 1.6.20 has two pods, made through the
// container runtime interface: in pod-web a container in its third life, in pod-old
// one that has ended. test/lab made them, testdata/pods and pods.db.gz are the
// engine's.
func kubelet(t *testing.T) *engine.Host {
	t.Helper()
	root := testutil.Private(t, "testdata/pods")
	put(t, filepath.Join(root, "var/lib/containerd", database), testutil.Gunzip(t, "testdata/pods.db.gz"))
	return engine.Recorded(root, []procfs.Task{
		{PID: 80, NSpid: []int{80, 1}, Start: 1, PIDNS: 4026532253},
		{PID: 259, NSpid: []int{259, 1}, Start: 2, PIDNS: 4026532255},
		{PID: 307, NSpid: []int{307, 1}, Start: 3, PIDNS: 4026532258},
	})
}

// TestPods: a container of a pod is one row, whatever lives it had before.
func TestPods(t *testing.T) {
	all, err := kubelet(t).List(context.Background(), []engine.Engine{Engine{}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range all {
		got = append(got, fmt.Sprintf("%s %.4s %s %d", all[i].FullName(), all[i].ID, all[i].State, all[i].Init.PID))
	}
	want := []string{
		"pod:lab/pod-old/POD 9932 running 307", "pod:lab/pod-old/old c8bf stopped 0",
		"pod:lab/pod-web/POD bc76 running 80", "pod:lab/pod-web/web 33b8 running 259",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, want := range map[string]string{
		"pod:lab/pod-web": "33b8", "pod:lab/pod-old": "c8bf", "pod:lab/pod-web/POD": "bc76", "containerd:33b8ad": "33b8", "pod:lab": "",
	} {
		if c, err := engine.Named(all, name); want != "" && (err != nil || !strings.HasPrefix(c.ID, want)) || want == "" && err == nil {
			t.Errorf("%s is %+v, %v, want %q", name, c, err, want)
		}
	}
}

// TestReadPods: the database keeps each life.
func TestReadPods(t *testing.T) {
	all, err := readStored(t.Context(), strings.NewReader(string(testutil.Gunzip(t, "testdata/pods.db.gz"))))
	lives := 0
	for _, c := range all {
		if c.created.Year() != 2026 {
			t.Errorf("%s was made %v", c.ID, c.created)
		}
		if c.FullName() == "pod:lab/pod-web/web" {
			lives++
		}
	}
	if err != nil || len(all) != 6 || lives != 3 {
		t.Errorf("%d lives of %+v, %v", lives, all, err)
	}
}

// TestJoin: of what has one name in a pod, the task or the newest is kept; what is in
// no pod is told apart by its id alone.
func TestJoin(t *testing.T) {
	life := func(id string, pod bool, made int) stored {
		return stored{engine.Container{Name: "n/p/c", ID: id, Pod: pod, StopSignal: "SIG" + id}, time.Unix(int64(made), 0)}
	}
	for _, test := range []struct {
		tasks []engine.Container
		all   []stored
		want  string
	}{
		{nil, []stored{life("a", true, 1), life("b", true, 3), life("c", true, 2)}, "b SIGb"},
		{[]engine.Container{life("a", true, 1).Container}, []stored{life("a", true, 1), life("b", true, 3)}, "a SIGa"}, // b never started
		{[]engine.Container{life("x", false, 1).Container}, []stored{life("b", true, 1)}, "x SIGx, b SIGb"},
		{nil, []stored{life("a", false, 1), life("b", false, 3)}, "b SIGb, a SIGa"},
		// Of a pod by its task alone: nobody wrote labels on it.
		{[]engine.Container{{Name: "n/p/c", ID: "a", Pod: true}}, []stored{{Container: engine.Container{Name: "k8s.io/a", ID: "a", StopSignal: "SIGa"}}}, "a SIGa"},
	} {
		var got []string
		for _, c := range join(test.tasks, test.all) {
			got = append(got, c.ID+" "+c.StopSignal)
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%+v, %+v: %q, want %q", test.tasks, test.all, got, test.want)
		}
	}
}
