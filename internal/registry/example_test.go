// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"os"

	"github.com/outband/outband/internal/registry"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	r, err := registry.Open(dir + "/outband") // registry.Default(os.Geteuid(), os.Getenv)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	e, err := r.Begin(registry.Record{
		Target: "docker:web", Verb: "enter", Command: []string{"ps"}, User: "root", By: registry.Caller(os.Getenv),
	})
	if err != nil {
		fmt.Println(err) // nobody is let in without a record
		return
	}
	err = e.Update(func(rec *registry.Record) { rec.Pids = []int{4711, 12} })
	sessions, lerr := r.List()
	fmt.Println(len(sessions), sessions[0].Target, sessions[0].Pids, err, lerr)
	fmt.Println(e.End(registry.Outcome{How: "exit 0"}))
	// Output:
	// 1 docker:web [4711 12] <nil> <nil>
	// <nil>
}
