// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"reflect"
	"unicode/utf8"
)

// broken tells whether v, not looking into structs, holds text that is not
// valid UTF-8. Structs have fields, which say it themselves. The types' own
// encodings are asked for last, as that is what takes time.
func broken(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return !utf8.ValidString(v.String()) && !foreign(v.Type())
	case reflect.Pointer, reflect.Interface:
		return broken(v.Elem()) && !foreign(v.Type())
	case reflect.Slice, reflect.Array:
		if !textual(v.Type()) {
			return false
		}
		for i := range v.Len() {
			if broken(v.Index(i)) {
				return !foreign(v.Type())
			}
		}
	case reflect.Map:
		if !textual(v.Type()) {
			return false
		}
		for _, x := range v.Seq2() {
			if broken(x) {
				return !foreign(v.Type())
			}
		}
	}
	return false
}

// textual tells whether the elements of a list or map can be broken, which
// spares a look at each number or struct.
func textual(t reflect.Type) bool {
	switch t.Elem().Kind() {
	case reflect.String, reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return true
	}
	return false
}

// raw appends the bytes of a broken value in base64, in the form of the value:
// whoever finds \ufffd at some place in it finds the bytes at the same place
// here.
func (e *encoder) raw(v reflect.Value) {
	switch {
	case !broken(v):
		e.text("null")
	case v.Kind() == reflect.String:
		e.bytes([]byte(v.String()))
	case v.Kind() == reflect.Map:
		e.text("{")
		for _, k := range sortedKeys(v) {
			if x := v.MapIndex(k); broken(x) {
				e.key(validKey(k.String()))
				e.raw(x)
			}
		}
		e.text("}")
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		e.text("[")
		for i := range v.Len() {
			if i > 0 {
				e.text(",")
			}
			e.raw(v.Index(i))
		}
		e.text("]")
	default: // a pointer or an interface
		e.raw(v.Elem())
	}
}
