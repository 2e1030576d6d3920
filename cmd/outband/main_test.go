// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

// The table of verbs calls each what it calls itself, and the one that is called by
// the first word is built alone.
func TestVerbs(t *testing.T) {
	p := &program{}
	for _, v := range verbs {
		c := v.build(p)
		if names := append([]string{c.Name()}, c.Aliases...); !slices.Equal(names, v.names) {
			t.Errorf("%v calls itself %v", v.names, names)
		}
		for _, name := range v.names {
			root, verb := p.command([]string{name, "x"})
			if verb != v.names[0] || len(root.Commands()) != 1 {
				t.Errorf("%s is %q among %d", name, verb, len(root.Commands()))
			}
		}
	}
	for _, args := range [][]string{nil, {"help", "tree"}, {"--run-dir", "x", "tree"}, {"__complete", "tree", ""}, {"treee"}} {
		if root, _ := p.command(args); len(root.Commands()) < len(verbs) {
			t.Errorf("%q: %d commands of %d", args, len(root.Commands()), len(verbs))
		}
	}
}
