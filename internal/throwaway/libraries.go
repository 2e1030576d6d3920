// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package throwaway

// libraries is empty: without cgo every binary is static.
func libraries() ([]string, error) { return nil, nil }
