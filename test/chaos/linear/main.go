// linear checks histories of registers with Porcupine.
//
//	linear [-seconds N] HISTORY.jsonl ...
//
// Each line is an operation of workloads.py's "register": key, op (read, write, cas), a, b, result,
// begin, end, outcome. Keys are independent. What has failed did not happen; what is unknown may have
// happened at any time after its begin. One line a history; exit code 0: all are linearizable, 1: one is
// not, 2: usage, or one could not be decided in time.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

type line struct {
	Client  int
	Op      string
	Key     int
	A, B    int64
	Result  *int64
	Begin   int64
	End     int64
	Outcome string
}

type input struct {
	op   string
	a, b int64
}

type output struct {
	unknown bool
	value   int64 // read: the value; cas: 1 if it was done
}

// A register begins as 0.
var register = porcupine.Model{
	Init: func() interface{} { return int64(0) },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		value, do, got := state.(int64), in.(input), out.(output)
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

func load(path string) (map[int][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	keys := map[int][]porcupine.Operation{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for number := 1; lines.Scan(); number++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %v", number, err)
		}
		unknown := l.Outcome == "unknown"
		switch {
		case l.Op != "read" && l.Op != "write" && l.Op != "cas":
			return nil, fmt.Errorf("line %d: no operation \"%s\"", number, l.Op)
		case l.Outcome == "fail" || unknown && l.Op == "read":
			continue
		case !unknown && l.Result == nil:
			return nil, fmt.Errorf("line %d: no result", number)
		}
		operation := porcupine.Operation{ClientId: l.Client, Input: input{l.Op, l.A, l.B}, Call: l.Begin, Return: l.End,
			Output: output{unknown: unknown}}
		if unknown {
			operation.Return = math.MaxInt64
		} else {
			operation.Output = output{value: *l.Result}
		}
		keys[l.Key] = append(keys[l.Key], operation)
	}
	return keys, lines.Err()
}

func check(path string, limit time.Duration) int {
	keys, err := load(path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "linear: %s: %v\n", path, err)
		return 2
	}
	order, count, code := []int{}, 0, 0
	for key := range keys {
		order = append(order, key)
		count += len(keys[key])
	}
	sort.Ints(order)
	for _, key := range order {
		result := porcupine.CheckOperationsTimeout(register, keys[key], limit)
		if result == porcupine.Illegal {
			fmt.Printf("%s: not linearizable: key %d, %d operations\n", path, key, len(keys[key]))
			code = 1
		} else if result == porcupine.Unknown && code == 0 {
			fmt.Printf("%s: not decided in %v: key %d, %d operations\n", path, limit, key, len(keys[key]))
			code = 2
		}
	}
	if code == 0 {
		fmt.Printf("%s: linearizable: %d operations on %d keys\n", path, count, len(keys))
	}
	return code
}

func main() {
	seconds := flag.Int("seconds", 60, "how long one key may take")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: linear [-seconds N] HISTORY.jsonl ...")
		os.Exit(2)
	}
	code := 0
	for _, path := range flag.Args() {
		if got := check(path, time.Duration(*seconds)*time.Second); code == 0 || got == 1 {
			code = got
		}
	}
	os.Exit(code)
}
