// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// RawSuffix ends the name of the field that Marshal adds after one that holds
// text which is not valid UTF-8.
const RawSuffix = "Raw"

// Marshal returns v as compact JSON that is printable throughout, whatever its
// strings hold. It is json.Marshal with these differences:
//
//   - Strings are written as String's are, and <, > and & stay.
//   - After a field whose text is not valid UTF-8 comes one with its bytes in
//     base64, named after it with RawSuffix. Its value has the field's form: a
//     list has null for the elements that are fine, an object lacks them.
//   - A nil slice is [] and a nil map {}, so that a reader finds one type.
//   - Keys of maps are strings. They are escaped if they are not valid UTF-8:
//     for names that somebody else chose, a list is the better form.
//   - Fields promoted from an embedded struct are written in place, without a
//     choice between equal names; the option "string" is refused.
//
// Types with a MarshalJSON or MarshalText of their own are asked, and what they
// answer is made printable.
func Marshal(v any) ([]byte, error) {
	e := encoder{fields: map[reflect.Type][]field{}}
	if err := e.value(reflect.ValueOf(v)); err != nil {
		return nil, fmt.Errorf("encode %T as json: %w", v, err)
	}
	return e.buf, nil
}

// encoder is the state of one Marshal. Types are analysed once for each, so
// that there is no cache to share.
type encoder struct {
	buf    []byte
	fields map[reflect.Type][]field
}

// value appends any value. Types are asked for encodings of their own before
// their kinds are looked at, as in encoding/json; the common kinds are written
// here and not there, which costs a copy and a second look at each string.
func (e *encoder) value(v reflect.Value) error {
	if !v.IsValid() {
		e.text("null")
		return nil
	}
	if foreign(v.Type()) {
		return e.foreign(v)
	}
	switch v.Kind() {
	case reflect.String:
		e.buf = appendString(e.buf, v.String())
	case reflect.Pointer, reflect.Interface:
		return e.value(v.Elem())
	case reflect.Struct:
		return e.object(v)
	case reflect.Slice, reflect.Array:
		return e.list(v)
	case reflect.Map:
		return e.mapping(v)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.buf = strconv.AppendUint(e.buf, v.Uint(), 10)
	default: // true, 1.5, or the refusal of what JSON cannot say
		return e.foreign(v)
	}
	return nil
}

// text appends s as it is: punctuation and words of JSON.
func (e *encoder) text(s string) { e.buf = append(e.buf, s...) }

// foreign leaves v to encoding/json, which finds the methods of a pointer too.
func (e *encoder) foreign(v reflect.Value) error {
	if v.Kind() != reflect.Pointer {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p
	}
	b, err := json.Marshal(v.Interface())
	if err == nil {
		e.buf, err = appendForeign(e.buf, b)
	}
	return err
}

// object appends a struct.
func (e *encoder) object(v reflect.Value) error {
	e.text("{")
	if err := e.members(v); err != nil {
		return err
	}
	e.text("}")
	return nil
}

// members appends the fields of a struct, those of embedded ones in place.
func (e *encoder) members(v reflect.Value) error {
	fields, err := e.of(v.Type())
	if err != nil {
		return err
	}
	for _, f := range fields {
		fv := v.Field(f.index)
		switch {
		case f.omitEmpty && empty(fv), f.omitZero && fv.IsZero():
		case f.embedded:
			err = e.embedded(fv)
		default:
			err = e.member(f.name, fv)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// embedded appends the fields of an embedded struct, or of one that an
// embedded pointer refers to.
func (e *encoder) embedded(v reflect.Value) error {
	if v.Kind() != reflect.Pointer {
		return e.members(v)
	}
	if v.IsNil() {
		return nil
	}
	return e.members(v.Elem())
}

// member appends one field, and its bytes after it if it needs them.
func (e *encoder) member(name string, v reflect.Value) error {
	e.key(name)
	if err := e.value(v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if broken(v) {
		e.key(name + RawSuffix)
		e.raw(v)
	}
	return nil
}

// key appends the name of a member, after a comma unless it is the first.
func (e *encoder) key(name string) {
	if e.buf[len(e.buf)-1] != '{' { // a string cannot end with it: it ends with a quote
		e.text(",")
	}
	e.buf = append(appendString(e.buf, name), ':')
}

// list appends a slice or an array. A slice of bytes is base64 unless they have
// an encoding of their own, an array of them a list of numbers, as in
// encoding/json.
func (e *encoder) list(v reflect.Value) error {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 && !foreign(v.Type().Elem()) {
		e.bytes(v.Bytes())
		return nil
	}
	e.text("[")
	for i := range v.Len() {
		if i > 0 {
			e.text(",")
		}
		if err := e.value(v.Index(i)); err != nil {
			return err
		}
	}
	e.text("]")
	return nil
}

// bytes appends b in base64, with padding.
func (e *encoder) bytes(b []byte) {
	e.text(`"`)
	e.buf = base64.StdEncoding.AppendEncode(e.buf, b)
	e.text(`"`)
}

// mapping appends a map, its keys sorted: the same facts give the same text,
// which scripts compare.
func (e *encoder) mapping(v reflect.Value) error {
	if v.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("%s: %w", v.Type(), errKey)
	}
	e.text("{")
	for _, k := range sortedKeys(v) {
		e.key(validKey(k.String()))
		if err := e.value(v.MapIndex(k)); err != nil {
			return fmt.Errorf("%s: %w", validKey(k.String()), err)
		}
	}
	e.text("}")
	return nil
}

// sortedKeys returns the keys of a map, which are strings.
func sortedKeys(v reflect.Value) []reflect.Value {
	return slices.SortedFunc(v.Seq(), func(a, b reflect.Value) int {
		return cmp.Compare(a.String(), b.String())
	})
}

// validKey keeps apart keys that \ufffd would make equal: of two equal ones a
// reader keeps the last.
func validKey(k string) string {
	if utf8.ValidString(k) {
		return k
	}
	return Escape(k)
}
