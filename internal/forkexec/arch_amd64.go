// SPDX-License-Identifier: Apache-2.0

package forkexec

const elfMachine = uint16(62) // EM_X86_64
