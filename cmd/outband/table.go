// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"text/tabwriter"
)

// table puts cells, with tabs between them, in columns. What it writes goes out at
// once when it is flushed: a tabwriter alone writes each cell by itself, which for
// 500 containers are 8,500 calls.
type table struct {
	*tabwriter.Writer

	to   io.Writer
	text bytes.Buffer
}

func newTable(w io.Writer) *table {
	t := &table{to: w}
	t.Writer = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	return t
}

// Flush writes all of it.
func (t *table) Flush() error {
	if err := t.Writer.Flush(); err != nil {
		return err
	}
	_, err := t.text.WriteTo(t.to)
	return err
}
