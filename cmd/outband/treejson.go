// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/outband/outband/internal/safetext"
	"github.com/outband/outband/pidtree"
)

// chunkSize is how much JSON is kept before it is written, bytes: memory that is
// touched for the first time costs more than a call.
const chunkSize = 32 << 10

// treeJSON writes a forest.
type treeJSON struct {
	tree *pidtree.Tree
	to   io.Writer
	dst  []byte // not written yet; between nodes it is cut, in none
	err  error
}

// writeTree writes a forest as JSON, a line with an array of nodes: what
// safetext.Marshal makes of nodes, without the reflection, which took as long for a
// thousand processes as a fifth of reading them.
func writeTree(w io.Writer, t *forest) error {
	j := &treeJSON{tree: t.Tree, to: w, dst: append(make([]byte, 0, 2*chunkSize), '[')}
	for i, p := range t.roots {
		if i > 0 {
			j.dst = append(j.dst, ',')
		}
		j.node(p)
	}
	j.dst = append(j.dst, "]\n"...)
	j.flush()
	return j.err
}

func (j *treeJSON) flush() {
	if j.err == nil {
		_, j.err = j.to.Write(j.dst)
	}
	j.dst = j.dst[:0]
}

func (j *treeJSON) node(p *pidtree.Process) {
	j.dst = append(appendFacts(j.dst, p), `,"children":[`...)
	first := true
	for child := range j.tree.Children(p) {
		if !first {
			j.dst = append(j.dst, ',')
		}
		first = false
		j.node(child)
	}
	j.dst = append(j.dst, `]}`...)
	if len(j.dst) >= chunkSize {
		j.flush()
	}
}

// appendFacts appends a node but for its children and its end.
func appendFacts(dst []byte, p *pidtree.Process) []byte {
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
	return strconv.AppendUint(append(dst, `,"started":`...), p.Start, 10)
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
