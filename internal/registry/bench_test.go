// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"
)

// BenchmarkBeginEnd is what a session pays for being on record. The bar is
// 150 µs.
func BenchmarkBeginEnd(b *testing.B) {
	r, err := Open(tempDir(b) + "/outband")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	rec := sample()
	b.ReportAllocs()
	for b.Loop() {
		e, err := r.Begin(rec)
		if err != nil {
			b.Fatal(err)
		}
		if err := e.End(Outcome{How: "exit 0"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCaller(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Caller(func(string) string { return "" })
	}
}

func sample() Record {
	return Record{
		Target: "docker:web", Verb: "enter", Command: []string{"ps", "ax"}, User: "root", Pids: []int{4711, 12},
		Init: Init{PID: 4242, Started: 123456, PIDNS: 4026532181}, Cgroup: "/docker/0123/outband-1",
		By: Caller(func(string) string { return "192.0.2.1 50000 192.0.2.2 22" }),
	}
}
