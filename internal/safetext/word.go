// SPDX-License-Identifier: Apache-2.0

package safetext

import "strings"

// plainWord is what means itself in a word of every POSIX shell, wherever it stands.
const plainWord = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-"

// Word is s as one word of a command line that is shown to be copied into a POSIX
// shell (class A22): as it is where that is plain, else in single quotes. What is
// not printable appears as with Escape. The word then means another text than s,
// and a command that nothing has this name for.
func Word(s string) string {
	if s != "" && strings.Trim(s, plainWord) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(Escape(s), "'", `'\''`) + "'"
}

// Column is Escape for what stands beside other columns, which two blanks divide:
// it has no two in a row, so that it does not look like several (class A20). The
// second one appears as \x20.
func Column(s string) string {
	if !strings.Contains(s, "  ") {
		return Escape(s)
	}
	return strings.ReplaceAll(string(appendEscaped(nil, s, false)), "  ", ` \x20`)
}
