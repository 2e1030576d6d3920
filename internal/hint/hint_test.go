// SPDX-License-Identifier: Apache-2.0

package hint

import (
	"errors"
	"io"
	"testing"
)

// An error with a way out is the same error to who asks for either.
func TestWith(t *testing.T) {
	err := With(io.EOF, "begin anew")
	var h interface{ Hint() string }
	if !errors.Is(err, io.EOF) || err.Error() != io.EOF.Error() || !errors.As(err, &h) || h.Hint() != "begin anew" {
		t.Errorf("%v", err)
	}
}
