// SPDX-License-Identifier: Apache-2.0

package pidtree

import "testing"

// TestVisitors: who counts as a visitor, by the shape of the tree.
func TestVisitors(t *testing.T) {
	ps := []Process{
		{PIDs: []int{1}},                                // the machine's init
		{PIDs: []int{10}, Parent: 1},                    // a shell outside
		{PIDs: []int{20, 1}, Parent: 1},                 // init of a container
		{PIDs: []int{21, 2}, Parent: 20},                // its child
		{PIDs: []int{22, 3, 1}, Parent: 21},             // init of a container inside
		{PIDs: []int{23, 4, 2}, Parent: 22},             // its child
		{PIDs: []int{30, 5}, Parent: 10},                // entered from the shell
		{PIDs: []int{31, 6}, Parent: 30},                // its child
		{PIDs: []int{32, 7, 3}, Parent: 30},             // entered further from there
		{PIDs: []int{33, 8}, Parent: 0},                 // its parent is not visible
		{PIDs: []int{34, 9}, Parent: 99},                // nor here
		{PIDs: []int{40, 10}, Parent: 20},               // taken over by init
		{PIDs: []int{50, 11}, Parent: 51},               // a circle: numbers given away
		{PIDs: []int{51, 12}, Parent: 50},               // while they were read
		{PIDs: []int{60, 13}, Parent: 20, Comm: "late"}, //
	}
	want := map[int]bool{30: true, 31: true, 32: true, 33: true, 34: true}
	markVisitors(ps)
	for _, p := range ps {
		if p.Visitor != want[p.PID()] {
			t.Errorf("%v: visitor %v", p.PIDs, p.Visitor)
		}
	}
}

func TestNumbers(t *testing.T) {
	p := Process{PIDs: []int{30, 5, 2}}
	if p.PID() != 30 || p.Inner() != 2 || p.Level() != 2 {
		t.Errorf("PID %d, Inner %d, Level %d", p.PID(), p.Inner(), p.Level())
	}
}
