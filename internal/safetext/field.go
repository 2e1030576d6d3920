// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

var (
	errKey    = errors.New("keys are not strings")
	errQuoted = errors.New(`the option "string" is not supported`)
)

// field is one field of a struct as its json tag has it.
type field struct {
	index     int
	name      string
	embedded  bool // its own fields stand in its place
	omitEmpty bool
	omitZero  bool
}

// of returns the fields of a struct type, analysed when it is first met.
func (e *encoder) of(t reflect.Type) ([]field, error) {
	if fields, ok := e.fields[t]; ok {
		return fields, nil
	}
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f, ok, err := parseField(t.Field(i))
		if err != nil {
			return nil, err
		}
		if ok {
			f.index = i
			fields = append(fields, f)
		}
	}
	e.fields[t] = fields
	return fields, nil
}

// parseField returns what the encoders need of a field, and whether they need
// it at all. The option "string" is an error rather than ignored: the output
// would not be what its type promises.
func parseField(sf reflect.StructField) (f field, ok bool, err error) {
	tag := sf.Tag.Get("json")
	if tag == "-" {
		return f, false, nil
	}
	name, options, _ := strings.Cut(tag, ",")
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "omitempty":
			f.omitEmpty = true
		case "omitzero":
			f.omitZero = true
		case "string":
			return f, false, fmt.Errorf("field %s: %w", sf.Name, errQuoted)
		}
	}
	f.name = name
	if name == "" {
		f.name = sf.Name
		f.embedded = sf.Anonymous && structured(sf.Type)
	}
	return f, sf.IsExported() || f.embedded, nil
}

// structured tells whether a type is a struct whose fields can stand for it, or
// a pointer to one.
func structured(t reflect.Type) bool {
	if foreign(t) {
		return false
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// foreign tells whether a type has an encoding of its own, be it on its
// pointer.
func foreign(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[String]() || t.Kind() == reflect.Interface:
		return false
	case t.PkgPath() == "" && t.Kind() != reflect.Pointer && t.Kind() != reflect.Struct:
		return false // no methods
	case t.Kind() != reflect.Pointer:
		t = reflect.PointerTo(t)
	}
	return t.Elem() != reflect.TypeFor[String]() &&
		(t.Implements(reflect.TypeFor[json.Marshaler]()) ||
			t.Implements(reflect.TypeFor[encoding.TextMarshaler]()))
}

// empty is what omitempty leaves out: not structs, for which there is omitzero.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}
