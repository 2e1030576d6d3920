// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
)

// nodeSize is what a node takes, bytes; some take more.
const nodeSize = 256

// appendTree appends a forest as JSON, an array of nodes: what safetext.Marshal
// makes of nodes, without the reflection, which took as long for a thousand
// processes as a fifth of reading them.
func appendTree(dst []byte, t *forest) []byte {
	dst = append(slices.Grow(dst, nodeSize*len(t.Processes)), '[')
	for i, p := range t.roots {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendNode(dst, t.Tree, p)
	}
	return append(dst, ']')
}

func appendNode(dst []byte, t *pidtree.Tree, p *pidtree.Process) []byte {
	dst = append(dst, `{"pids":[`...)
	for i, pid := range p.PIDs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(pid), 10)
	}
	dst = strconv.AppendInt(append(dst, `],"level":`...), int64(p.Level()), 10)
	dst = strconv.AppendUint(append(dst, `,"pidns":`...), uint64(p.PIDNS), 10)
	dst = appendWords(dst, p)
	if p.Truncated() {
		dst = append(dst, `,"truncated":true`...)
	}
	if p.Silent {
		dst = append(dst, `,"silent":true`...)
	}
	dst = strconv.AppendUint(append(dst, `,"uid":`...), uint64(p.UID), 10)
	dst = safetext.AppendJSON(append(dst, `,"state":`...), string(p.State))
	if p.Container == "" {
		dst = append(dst, `,"container":null`...)
	} else {
		dst = appendMembers(dst, named{p.Container})
	}
	dst = strconv.AppendBool(append(dst, `,"visitor":`...), p.Visitor)
	if p.Via != "" {
		dst = safetext.AppendJSON(append(dst, `,"via":`...), p.Via)
	}
	dst = strconv.AppendInt(append(dst, `,"parent":`...), int64(p.Parent), 10)
	dst = strconv.AppendUint(append(dst, `,"started":`...), p.Start, 10)
	dst = append(dst, `,"children":[`...)
	empty := len(dst)
	for child := range t.Children(p) {
		if len(dst) > empty {
			dst = append(dst, ',')
		}
		dst = appendNode(dst, t, child)
	}
	return append(dst, `]}`...)
}

// words are the strings that a process chose.
type words struct {
	Comm string   `json:"comm"`
	Args []string `json:"args"`
}

// named is the name of a container.
type named struct {
	Container string `json:"container"`
}

// appendMembers appends the members of a struct of strings behind others.
func appendMembers(dst []byte, v any) []byte {
	b, err := safetext.Marshal(v)
	if err != nil { // there is none for strings
		return dst
	}
	return append(append(dst, ','), b[1:len(b)-1]...)
}

// appendWords appends comm and args, with fields for the bytes of what is not
// valid UTF-8, which are rare.
func appendWords(dst []byte, p *pidtree.Process) []byte {
	if !utf8.ValidString(p.Comm) || !utf8.ValidString(p.Cmdline) {
		return appendMembers(dst, words{p.Comm, p.Args()})
	}
	dst = safetext.AppendJSON(append(dst, `,"comm":`...), p.Comm)
	dst = append(dst, `,"args":[`...)
	if p.Cmdline != "" {
		first := true
		for arg := range strings.SplitSeq(strings.TrimSuffix(p.Cmdline, "\x00"), "\x00") {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = safetext.AppendJSON(dst, arg)
		}
	}
	return append(dst, ']')
}
