// SPDX-License-Identifier: Apache-2.0

package forkexec

const elfMachine = uint16(183) // EM_AARCH64
