// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
)

// Unmarshal reads what Marshal wrote into v, a pointer. It is json.Unmarshal,
// after which text that has a field with its bytes is those bytes again; in
// values of maps it stays as json.Unmarshal has it.
func Unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	if !bytes.Contains(data, []byte(RawSuffix+`":`)) {
		return nil // nearly always
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return err
	}
	e := encoder{fields: map[reflect.Type][]field{}}
	return e.restore(reflect.ValueOf(v), tree)
}

// restore walks v and the JSON it was read from side by side. Where the two do
// not match, the JSON was not Marshal's, and v stays as it is.
func (e *encoder) restore(v reflect.Value, tree any) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !foreign(v.Type()) {
			return e.restore(v.Elem(), tree)
		}
	case reflect.Slice, reflect.Array:
		list, _ := tree.([]any)
		for i := range min(v.Len(), len(list)) {
			if err := e.restore(v.Index(i), list[i]); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if object, ok := tree.(map[string]any); ok && !foreign(v.Type()) {
			return e.restoreFields(v, object)
		}
	}
	return nil
}

// restoreFields restores the text in a struct: of each field first what is
// inside of it, then its own.
func (e *encoder) restoreFields(v reflect.Value, object map[string]any) error {
	fields, err := e.of(v.Type())
	if err != nil {
		return err
	}
	for _, f := range fields {
		if f.embedded {
			if err := e.restore(v.Field(f.index), object); err != nil {
				return err
			}
			continue
		}
		if err := e.restore(v.Field(f.index), object[f.name]); err != nil {
			return err
		}
		if err := patch(v.Field(f.index), object[f.name+RawSuffix]); err != nil {
			return fmt.Errorf("%s: %w", f.name+RawSuffix, err)
		}
	}
	return nil
}

// patch sets the text in v from its bytes: raw has the form that v has. What
// has another form is a field of this name that Marshal did not make.
func patch(v reflect.Value, raw any) error {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch x := raw.(type) {
	case string:
		if v.Kind() != reflect.String || foreign(v.Type()) {
			return nil
		}
		b, err := base64.StdEncoding.DecodeString(x)
		if err != nil {
			return err
		}
		v.SetString(string(b))
	case []any:
		if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
			return nil
		}
		for i := range min(v.Len(), len(x)) {
			if err := patch(v.Index(i), x[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
