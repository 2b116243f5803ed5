// linear checks histories with Porcupine.
//
//	linear [-model register|keys] [-seconds N] HISTORY.jsonl ...
//
// Each line is an operation of the workload of that name in workloads.py, with begin, end and outcome;
// register.go and keys.go say what else. A history falls into parts that are independent of each other.
// What has failed did not happen; what is unknown may have happened at any time after its begin. One
// line a history; exit code 0: all are linearizable, 1: one is not, 2: usage, or one could not be
// decided in time.
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

// What every operation has.
type head struct {
	Client  int
	Op      string
	Begin   int64
	End     int64
	Outcome string
}

func (h head) unknown() bool { return h.Outcome == "unknown" }

// One sort of history.
type sortOf struct {
	model porcupine.Model
	// The part that a line belongs to, what was asked and what was answered; nil, nil: it says nothing.
	read func(h head, line []byte) (part string, in, out interface{}, err error)
}

var sorts = map[string]sortOf{"register": {register, readRegister}, "keys": {keys, readKeys}}

func load(path string, kind sortOf) (map[string][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parts := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for number := 1; lines.Scan(); number++ {
		var h head
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			return nil, fmt.Errorf("line %d: %v", number, err)
		}
		if h.Outcome == "fail" {
			continue
		}
		part, in, out, err := kind.read(h, lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %v", number, err)
		}
		if in == nil {
			continue
		}
		operation := porcupine.Operation{ClientId: h.Client, Input: in, Call: h.Begin, Output: out, Return: h.End, Metadata: h}
		if h.unknown() {
			operation.Return = math.MaxInt64
		}
		parts[part] = append(parts[part], operation)
	}
	return parts, lines.Err()
}

// Of the longest order that holds, what would have to come next and cannot.
func explain(model porcupine.Model, operations []porcupine.Operation, limit time.Duration) string {
	_, info := porcupine.CheckOperationsVerbose(model, operations, limit)
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[string]int{}
	for _, one := range longest {
		placed[fmt.Sprint(one.Call, one.ClientId)]++
	}
	var left []porcupine.Operation
	for _, one := range operations {
		if placed[fmt.Sprint(one.Call, one.ClientId)] == 0 {
			left = append(left, one)
		}
	}
	sort.Slice(left, func(i, j int) bool { return left[i].Call < left[j].Call })
	text := ""
	tell := func(what string, one porcupine.Operation) {
		text += fmt.Sprintf("\n    %s at %d to %d: %s", what, one.Call, one.Return, model.DescribeOperation(one.Input, one.Output))
	}
	for i := len(longest) - 6; i < len(longest); i++ {
		if i >= 0 {
			tell("in order", longest[i])
		}
	}
	for i := 0; i < len(left) && i < 6; i++ {
		tell("does not fit", left[i])
	}
	return text
}

func check(path string, kind sortOf, limit time.Duration) int {
	parts, err := load(path, kind)
	if err != nil {
		fmt.Fprintf(os.Stderr, "linear: %s: %v\n", path, err)
		return 2
	}
	order, count, code := []string{}, 0, 0
	for part := range parts {
		order = append(order, part)
		count += len(parts[part])
	}
	sort.Strings(order)
	for _, part := range order {
		result := porcupine.CheckOperationsTimeout(kind.model, parts[part], limit)
		if result == porcupine.Illegal {
			fmt.Printf("%s: not linearizable: key %s, %d operations%s\n", path, part, len(parts[part]),
				explain(kind.model, parts[part], limit))
			code = 1
		} else if result == porcupine.Unknown && code == 0 {
			fmt.Printf("%s: not decided in %v: key %s, %d operations\n", path, limit, part, len(parts[part]))
			code = 2
		}
	}
	if code == 0 {
		fmt.Printf("%s: linearizable: %d operations on %d keys\n", path, count, len(parts))
	}
	return code
}

func main() {
	seconds := flag.Int("seconds", 60, "how long one key may take")
	name := flag.String("model", "register", "what the operations are: register or keys")
	flag.Parse()
	kind, known := sorts[*name]
	if flag.NArg() == 0 || !known {
		fmt.Fprintln(os.Stderr, "usage: linear [-model register|keys] [-seconds N] HISTORY.jsonl ...")
		os.Exit(2)
	}
	code := 0
	for _, path := range flag.Args() {
		if got := check(path, kind, time.Duration(*seconds)*time.Second); code == 0 || got == 1 {
			code = got
		}
	}
	os.Exit(code)
}
