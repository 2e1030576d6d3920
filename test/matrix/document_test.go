// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// report is a document with two tables, each of a test of its own.
type report struct {
	path   string         // from this directory
	second string         // what its second part begins with
	differ *regexp.Regexp // what is another in each run; nil: nothing
}

// settle writes what has become of the two parts of the report if that is asked
// for, and else sees whether it has a table as it was found. That has to be so
// where everything has to be there.
func (d *report) settle(t *testing.T, table string, write func(first, second string) string) {
	data, err := os.ReadFile(d.path)
	if *update {
		part, rest, _ := strings.Cut(string(data), d.second)
		if err := os.WriteFile(d.path, []byte(write(part, d.second+rest)), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil && strings.Contains(d.lasting(string(data)), d.lasting(table)) {
		return
	}
	said := fmt.Sprintf("%s is not what was found (%v): make test-matrix UPDATE=1\n%s", d.path, err, table)
	if os.Getenv("OUTBAND_REQUIRE") == "all" {
		t.Error(said)
	} else {
		t.Log(said) // other versions of the engines
	}
}

// lasting is a text without what is another in each run.
func (d *report) lasting(text string) string {
	if d.differ == nil {
		return text
	}
	return d.differ.ReplaceAllString(text, "")
}

// grid is a table of Markdown, its head the first row.
func grid(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}
