// SPDX-License-Identifier: Apache-2.0

package engine

import "testing"

func TestSignalName(t *testing.T) {
	for text, want := range map[string]string{
		"SIGTERM": "SIGTERM", "TERM": "SIGTERM", "term": "SIGTERM", "15": "SIGTERM", "9": "SIGKILL",
		"RTMIN": "SIGRTMIN", "SIGRTMIN+3": "SIGRTMIN+3", "rtmin+3": "SIGRTMIN+3", "37": "SIGRTMIN+3",
		"RTMAX": "SIGRTMIN+30", "RTMAX-27": "SIGRTMIN+3", "RTMAX-30": "SIGRTMIN", "SIGPWR": "SIGPWR",
		"": "", "0": "", "-1": "", "65": "", "RTMIN+31": "", "RTMIN+x": "", "SIG": "", "NOPE": "", "RTMIN-1": "", "15x": "", "RTMAX-40": "", "RTMIN+-5": "", "RTMAX+1": "",
	} {
		if got := SignalName(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		most int
		want string
	}{{"always", 0, "always"}, {"on-failure", 0, "on-failure"}, {"on-failure", 3, "on-failure:3"}, {"no", 0, "no"}, {"", 0, "no"}, {"always", 3, "always"}} {
		if got := Policy(c.name, c.most); got != c.want {
			t.Errorf("%q, %d: %q, want %q", c.name, c.most, got, c.want)
		}
	}
}
