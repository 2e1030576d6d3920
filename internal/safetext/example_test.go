// SPDX-License-Identifier: Apache-2.0

package safetext_test

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/outband/outband/internal/safetext"
)

func ExampleEscape() {
	fmt.Println(safetext.Escape("\x1b[2Jweb\r\u202egpj\xff"))
	fmt.Println(safetext.Escape(`C:\new is left alone`))
	// Output:
	// \x1b[2Jweb\r\u202egpj\xff
	// C:\new is left alone
}

func ExampleNewWriter() {
	messages := safetext.NewWriter(os.Stdout)
	fmt.Fprintf(messages, "outband: enter %s: not found\n", "we\u200bb")
	// Output: outband: enter we\u200bb: not found
}

func ExampleMarshal() {
	b, err := safetext.Marshal(struct {
		Name string   `json:"name"`
		Args []string `json:"args"`
	}{"web\x1b", []string{"sh", "\xff"}})
	fmt.Println(string(b), err)
	// Output: {"name":"web\u001b","args":["sh","\ufffd"],"argsRaw":[null,"/w=="]} <nil>
}

func ExampleString() {
	name := safetext.String("web\u202e")
	b, err := json.Marshal(map[string]safetext.String{"name": name})
	fmt.Printf("%s is %s, %v\n", name, b, err)
	// Output: web\u202e is {"name":"web\u202e"}, <nil>
}
