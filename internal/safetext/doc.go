// SPDX-License-Identifier: Apache-2.0

// Package safetext is the one sink through which untrusted text reaches a
// terminal, a log or JSON. Whatever a container can name (processes, arguments,
// host names, cgroups, mount points, users) may hold terminal controls, text
// that runs from right to left, invisible characters or bytes that are no text.
//
//   - Escape and Lines make such text visible for people; NewWriter does it to
//     all that passes. Column does it for what stands beside other columns.
//   - Word makes it one word of a command line for a shell.
//   - Marshal and String keep the true text for programs, as JSON that is
//     itself safe to print. Unmarshal reads it back byte for byte.
//
// It is applied always, whether or not the output is a terminal: logs and
// files are printed on terminals later.
//
// The package is pure: it makes no system call and holds no state.
package safetext
