package main

// Registers: key, op (read, write, cas), a, b, result. Keys are independent.

import (
	"encoding/json"
	"fmt"

	"github.com/anishathalye/porcupine"
)

type registerIn struct {
	op   string
	a, b int64
}

type registerOut struct {
	unknown bool
	value   int64 // read: the value; cas: 1 if it was done
}

// A register begins as 0.
var register = porcupine.Model{
	Init: func() interface{} { return int64(0) },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		value, do, got := state.(int64), in.(registerIn), out.(registerOut)
		switch do.op {
		case "read":
			return got.value == value, value
		case "write":
			return true, do.a
		default:
			done := value == do.a
			if !got.unknown && done != (got.value == 1) {
				return false, value
			}
			if done {
				return true, do.b
			}
			return true, value
		}
	},
	Equal:             func(one, other interface{}) bool { return one == other },
	DescribeOperation: func(in, out interface{}) string { return fmt.Sprintf("%v -> %v", in, out) },
}

func readRegister(h head, text []byte) (string, interface{}, interface{}, error) {
	var line struct {
		Key    int
		A, B   int64
		Result *int64
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return "", nil, nil, err
	}
	switch {
	case h.Op != "read" && h.Op != "write" && h.Op != "cas":
		return "", nil, nil, fmt.Errorf("no operation \"%s\"", h.Op)
	case h.unknown() && h.Op == "read":
		return "", nil, nil, nil
	case !h.unknown() && line.Result == nil:
		return "", nil, nil, fmt.Errorf("no result")
	}
	out := registerOut{unknown: h.unknown()}
	if !out.unknown {
		out.value = *line.Result
	}
	return fmt.Sprint(line.Key), registerIn{h.Op, line.A, line.B}, out, nil
}
