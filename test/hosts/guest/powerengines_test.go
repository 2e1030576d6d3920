// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// switched is a throw that has to succeed; it returns the new init where it is to
// be back, which by is to have started.
func switched(t *testing.T, name, action, by string, flags ...string) int {
	t.Helper()
	r, err := throw(t, name, action, flags...)
	if err != nil || !r.Done || (r.Back == nil) != (by == "") {
		t.Fatalf("%s %s %v: %+v, %v", name, action, flags, r, err)
	}
	if by == "" {
		return 0
	}
	if r.Back.By != by {
		t.Errorf("%s %s: started by %s, want %s", name, action, r.Back.By, by)
	}
	return r.Back.Pid
}

// TestPowerIncus: Incus says of its container what outband has made of it, by hand
// and through Incus.
func TestPowerIncus(t *testing.T) {
	m := incus(t)
	m.prepare(t)
	pid := m.run(t, "default", "switch")
	status := func(want string, pid int) {
		t.Helper()
		var info []struct {
			Status string `json:"status"`
			State  struct{ Pid int }
		}
		await(t, "Incus to say "+want, func() bool { // "Error" while it cleans up behind one that has ended
			out := call(t, "incus", "list", "switch", "--format", "json")
			if err := json.Unmarshal([]byte(out), &info); err != nil || len(info) != 1 {
				t.Fatal(err, out)
			}
			return info[0].Status == want
		})
		if pid != 0 && info[0].State.Pid != pid {
			t.Errorf("Incus says %+v, want %s, %d", info[0], want, pid)
		}
	}
	const name, through = "incus:switch", "--through-engine"
	status("Running", pid)
	slow := []string{"--grace", "60s"}
	for _, flags := range [][]string{slow, {"--force", "--grace", "60s"}, append(slow, through)} {
		again := switched(t, name, "reboot", "incus", flags...)
		if again == pid {
			t.Errorf("reboot %v: its init is %d still", flags, pid)
		}
		pid = again
		status("Running", pid)
	}
	for _, flags := range [][]string{nil, {"--force"}, {through}} {
		switched(t, name, "off", "", flags...)
		status("Stopped", 0)
		checkStopped(t, name)
		status("Running", switched(t, name, "on", "incus"))
	}
	for _, flags := range [][]string{nil, {through}} {
		switched(t, name, "pause", "", flags...)
		if out := answer(t, "power", name); !strings.Contains(out, "paused") || !strings.Contains(out, "frozen by") {
			t.Errorf("paused %v: %s", flags, out)
		}
		switched(t, name, "resume", "", flags...)
	}
	switched(t, name, "kill", "", through)
	status("Stopped", 0)
}

// machineUnit runs this host's own files as a machine: systemd-nspawn@web.service
// is what machinectl starts.
const machineUnit = `[Service]
ExecStart=
ExecStart=systemd-nspawn --quiet --keep-unit --boot --link-journal=no --private-network --private-users=pick --machine=%i --directory=/ --volatile=yes
`

// TestPowerMachined: a machine that is registered is switched by hand and through
// machinectl, and machined says of it what has become of it.
func TestPowerMachined(t *testing.T) {
	asRoot(t)
	has(t, "machinectl")
	dir := "/etc/systemd/system/systemd-nspawn@web.service.d"
	err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll("/var/lib/machines/web", 0o755),
		os.WriteFile(filepath.Join(dir, "test.conf"), []byte(machineUnit), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	call(t, "systemctl", "daemon-reload")
	t.Cleanup(func() { _, _ = try(t, "systemctl", "kill", "--signal=KILL", "systemd-nspawn@web.service") })
	const name, through = "nspawn:web", "--through-engine"
	running := func() bool {
		out := call(t, "machinectl", "list", "--no-legend")
		return slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "web ") })
	}
	on := func() int {
		t.Helper()
		pid := switched(t, name, "on", "nspawn")
		childOf(t, pid, "systemd-journal") // it has handlers for its signals by now
		if !running() {
			t.Error("machined does not know it")
		}
		return pid
	}
	off := func(action string, flags ...string) {
		t.Helper()
		switched(t, name, action, "", flags...)
		await(t, "its end by machined", func() bool { return !running() })
	}
	pid := on()
	checkNamed(t, name, pid)
	for _, flags := range [][]string{{through, "--grace", "60s"}, {"--grace", "60s"}} {
		again := switched(t, name, "reboot", "nspawn", flags...)
		if again == pid || !running() {
			t.Errorf("reboot %v: %d after %d, listed %v", flags, again, pid, running())
		}
		childOf(t, again, "systemd-journal")
		pid = again
	}
	off("off", through, "--grace", "60s")
	checkStopped(t, name)
	on()
	off("off", "--force")
	on()
	off("kill", through)
}
