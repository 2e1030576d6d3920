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
	out := Lines(string(p))
	n, err := io.WriteString(w.w, out)
	if err == nil && n < len(out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
