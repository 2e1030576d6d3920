// SPDX-License-Identifier: Apache-2.0

package safetext

import "io"

// NewWriter returns a writer that passes on to w what Lines makes of each
// write, in one write: messages that are written whole stay whole. It keeps
// nothing back, so a character cut in two by the writes is shown as its bytes.
// It may be used by several goroutines if w may.
func NewWriter(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

// Write counts bytes of p, as io.Writer wants it: all of them, or none if w
// did not take all that they became.
func (w writer) Write(p []byte) (int, error) {
	out := p
	if !plain(p) { // rarely: what is plain may be long, and is not copied
		out = []byte(Lines(string(p)))
	}
	n, err := w.w.Write(out)
	if err == nil && n < len(out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// plain tells whether all of p is printable ASCII in lines.
func plain(p []byte) bool {
	for _, c := range p {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}
