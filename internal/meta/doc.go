// SPDX-License-Identifier: Apache-2.0

// Package meta tests the repository: that imports point down, that documents
// name what is there, and that what tests need is what make deps installs.
package meta
