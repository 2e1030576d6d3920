// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/test/cve/rig"
)

// TestA32 throws the switch of a container that shares the pid namespace of who
// throws it: that is refused, whatever is asked for. The mutant, which does not
// look, ends it; had it not been for layer 1, it would have pressed.
//
// All of it happens in a pid namespace of the test's own, and CAP_SYS_BOOT is
// given up: nothing that goes wrong reaches the machine.
func TestA32(t *testing.T) {
	if rig.Nest(t) {
		return
	}
	begin(t)
	tool := rig.Build(t)
	mutant := rig.Build(t, rig.Change{File: "press.go", Old: "func (t *Target) Powered() error {\n",
		New: "func (t *Target) Powered() error {\n\tif t != nil {\n\t\treturn nil\n\t}\n"})
	c := testutil.Throwaway(t, throwaway.Spec{Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Tree: throwaway.TreeHost})
	target := fmt.Sprintf("pid:%d", c.Pid())
	ended := func(wait time.Duration) bool {
		polls := []unix.PollFd{{Fd: int32(c.Pidfd().Fd()), Events: unix.POLLIN}}
		n, _ := unix.Poll(polls, int(wait/time.Millisecond))
		return n > 0
	}
	for _, action := range []string{"off", "reboot", "halt", "kill", "pause", "resume"} {
		for _, flags := range [][]string{nil, {"--force"}, {"--anyway"}, {"--force", "--anyway", "--thaw"}} {
			r := tool.Run(append([]string{"power", target, action}, flags...)...)
			if r.Code != 4 || !strings.Contains(r.Err, "namespace") || ended(0) {
				t.Fatalf("%s %v: %+v", action, flags, r)
			}
		}
	}
	if r := tool.Run("power", target, "status"); r.Code != 0 || strings.Contains(r.Out, " off") || ended(50*time.Millisecond) {
		t.Errorf("status: %+v", r)
	}
	r := mutant.Run("power", target, "off", "--force", "--anyway")
	if !ended(time.Second) {
		t.Errorf("the mutant refuses as well: %+v", r)
	}
	if !strings.Contains(r.Out, "compare pid namespaces") {
		t.Errorf("the mutant's press was not refused below: %+v", r)
	}
}
