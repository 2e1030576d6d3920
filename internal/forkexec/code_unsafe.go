// SPDX-License-Identifier: Apache-2.0

package forkexec

import (
	"bytes"
	"unsafe"
)

// codeAddress returns where interpret's machine code starts. A Go function
// value would lead to the ABI wrapper instead.
func codeAddress() *byte

// codeEnd marks the end of interpret's bytes in both assembly files.
const codeEnd = "outband."

// maxCode bounds the search for codeEnd, bytes; interpret is about 300 long.
const maxCode = 1024

// code returns the machine code of interpret as it is in this process's text.
func code() []byte {
	text := unsafe.Slice(codeAddress(), maxCode)
	end := bytes.Index(text, []byte(codeEnd))
	if end < 0 {
		panic("forkexec: the interpreter has lost its end marker")
	}
	return text[:end]
}
