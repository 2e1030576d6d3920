// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// thrown is the last line of power -o json.
type thrown struct {
	Done     bool
	InitExit string `json:"init_exit"`
	Back     *struct {
		Pid int
		By  string
	}
}

// throw throws the switch of a container, with all capabilities: this test has
// given up the one to reboot the host, and what it starts has not got it.
func throw(t *testing.T, name, action string, flags ...string) (thrown, error) {
	t.Helper()
	last, _, err := throwSaid(t, name, action, flags...)
	return last, err
}

// throwSaid is throw, with all that is said.
func throwSaid(t *testing.T, name, action string, flags ...string) (last thrown, said string, err error) {
	t.Helper()
	path, err := exec.LookPath("outband")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"systemd-run", "--quiet", "--pipe", "--wait", "--collect", path, "power", name, action, "-o", "json"}, flags...)
	await(t, "an answer in time", func() bool {
		said, err = try(t, args...)
		return err == nil || said != "" || !strings.Contains(err.Error(), "no answer in time") // see ask
	})
	t.Logf("power %s %s %v: %s%v", name, action, flags, said, err)
	for line := range strings.Lines(said) {
		last = thrown{}
		_ = json.Unmarshal([]byte(line), &last) // none where it was refused
	}
	return last, said, err
}
