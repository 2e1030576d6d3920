// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/spf13/pflag"
)

// enterLine is a command line of enter, taken apart.
type enterLine struct {
	enterFlags
	set     *pflag.FlagSet // what the flags were parsed by
	target  string
	command []string
}

// enterDirectly takes a command line of enter apart by the description of its
// flags alone, without the tree of all verbs, which takes a tenth of the time
// that an entry does. ok is false for whatever is not simply that: another verb,
// a request for help, a mistake. They are cobra's.
func (p *program) enterDirectly(args []string) (line *enterLine, ok bool) {
	global := flagSet()
	p.registerRunDir(global)
	if global.Parse(args) != nil || global.ArgsLenAtDash() >= 0 || !isEnter(global.Arg(0)) {
		return nil, false
	}
	l := &enterLine{set: flagSet()}
	l.register(l.set)
	l.set.AddFlagSet(global)
	if l.set.Parse(global.Args()[1:]) != nil {
		return nil, false
	}
	var err error
	l.target, l.command, err = split(l.set, l.set.Args())
	return l, err == nil
}

// flagSet is an empty set of flags that end at the first word.
func flagSet() *pflag.FlagSet {
	fl := pflag.NewFlagSet("outband", pflag.ContinueOnError)
	fl.SetInterspersed(false)
	fl.Usage = func() {}
	return fl
}

// enterNames are those of the verb.
var enterNames = []string{"enter", "exec"}

func isEnter(verb string) bool { return slices.Contains(enterNames, verb) }
