// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/outband/outband/test/lab"
)

// comers are what outband calls the engines' own ways in; where there is none,
// somebody comes by nsenter.
func comers() map[string]string {
	return map[string]string{
		"runc": "runc exec", "crun": "crun exec", "docker": "docker exec", "docker-userns": "docker exec", "docker-rootless": "docker exec",
		"containerd": "containerd exec", "cri": "containerd exec", "podman": "podman exec", "podman-rootless": "podman exec",
		"lxc": "lxc-attach", "lxc-rootless": "lxc-attach",
	}
}

// facetVisitor: what its engine lets in is counted by ls, marked in the tree with
// what let it in, and reached by its number inside.
func facetVisitor(t *testing.T, c *known) string {
	const mark = "1357911"
	want, ok := comers()[c.host.Engine.Name]
	comes := func(ctx context.Context) (lab.Result, error) { return c.Exec(ctx, "sleep", mark) }
	if !ok {
		want = "nsenter"
		comes = func(ctx context.Context) (lab.Result, error) {
			cmd := c.host.Command("nsenter", "-t", fmt.Sprint(c.HostPid), "-p", "-m", "sleep", mark)
			if err := cmd.Start(); err != nil {
				return lab.Result{}, err
			}
			return cmd.Wait(ctx)
		}
	}
	gone := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	go func() { _, err := comes(ctx); gone <- err }()
	var v visitor
	if !within(func() bool { v = c.visitor(t, mark); return v.Via != "" }) {
		t.Errorf("what came by %s is %+v", want, v)
	} else if v.Via != want {
		t.Errorf("it came by %q, want %q", v.Via, want)
	}
	if rows := c.list(t, of(c.HostPid)); len(rows) != 1 || rows[0].Visitors != 1 {
		t.Errorf("%+v", rows)
	}
	if v.Pids == nil {
		return none
	}
	if r := c.run(t, c.host.Command(outband, "signal", c.full, "KILL", fmt.Sprint(v.Pids[len(v.Pids)-1]))); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if err := <-gone; err != nil {
		t.Errorf("%s does not end: %v", want, err)
	}
	if !within(func() bool { return c.visitor(t, mark).Pids == nil }) {
		t.Error("it is still there")
	}
	return "`" + want + "`"
}

// visitor is a process of the tree that came in.
type visitor struct {
	Pids     []int
	Args     []string
	Via      string
	Visitor  bool
	Children []visitor
}

// visitor finds the visitor with this argument in the tree of c; the zero visitor
// where there is none.
func (c *known) visitor(t *testing.T, mark string) visitor {
	t.Helper()
	r := c.run(t, c.host.Command(outband, "tree", c.full, "-o", "json"))
	var roots []visitor
	if err := json.Unmarshal([]byte(r.Out), &roots); err != nil || r.Code != 0 {
		t.Fatalf("tree %s: %v: %+v", c.full, err, r)
	}
	for len(roots) > 0 {
		v := roots[0]
		if v.Visitor && len(v.Args) > 1 && v.Args[len(v.Args)-1] == mark && v.Args[0] == "sleep" {
			return v
		}
		roots = append(roots[1:], v.Children...)
	}
	return visitor{}
}
