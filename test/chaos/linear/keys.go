package main

// Keys with versions: group, done, parts. Groups are independent of each other; the keys of one are not,
// for an operation may be of several of them: it is atomic, and of its parts none is done when the
// condition of one does not hold (done is false then).
//
// A part: key; do (get, put, delete, add); if ("", "absent", "present", "version" with expect);
// value, of a put or the summand of an add. Its answer:
//
//	get     found, and then value_found, version
//	put     version, the new one
//	delete  found: there was one
//	add     value_found: the sum, and maybe version
//	refused: version, the one that it has; 0: there is none. Absent in a part that was not to blame
//
// A version is larger than all versions that its key ever had. What was put by an operation whose
// outcome is unknown, or by an add, has a version that only later answers tell.

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

type part struct {
	Key    string
	Do     string
	If     string
	Expect uint64
	Value  string

	Found      bool
	ValueFound string `json:"value_found"`
	Version    *uint64
}

type keysIn []part

type keysOut struct{ unknown, done bool }

// A key. Its version is `version` when that is exact, else it is higher; so is the next one's.
type cell struct {
	there   bool
	exact   bool
	value   string
	version uint64
}

// By key; one that was never there is not in it. Never changed, only copied.
type cells map[string]cell

func (c cells) with(key string, now cell) cells {
	copied := make(cells, len(c)+1)
	for other, cell := range c {
		copied[other] = cell
	}
	copied[key] = now
	return copied
}

func (c cells) equal(other cells) bool {
	if len(c) != len(other) {
		return false
	}
	for key, one := range c {
		if two, there := other[key]; !there || one != two {
			return false
		}
	}
	return true
}

// It has this version, 0: it is not there. False: that cannot be.
func (c cell) is(version uint64) (cell, bool) {
	switch {
	case !c.there:
		return c, version == 0
	case c.exact:
		return c, version == c.version
	case version <= c.version:
		return c, false
	}
	c.version, c.exact = version, true
	return c, true
}

// What it is if the condition holds; and whether it may hold, whether it may not.
func (p *part) condition(c cell) (held cell, may, mayNot bool) {
	switch p.If {
	case "absent":
		return c, !c.there, c.there
	case "present":
		return c, c.there, !c.there
	case "version":
		held, may = c.is(p.Expect)
		return held, may, !may || c.there && !c.exact
	}
	return c, true, false
}

// What becomes of a cell whose condition holds. known: with this answer; false: it cannot have been.
func (p *part) apply(c cell, known bool) (cell, bool) {
	switch p.Do {
	case "get":
		if !known {
			return c, true
		}
		if !p.Found || !c.there {
			return c, p.Found == c.there
		}
		after, good := c.is(*p.Version)
		return after, good && c.value == p.ValueFound
	case "put":
		return p.put(c, known)
	case "delete":
		if known && p.Found != c.there {
			return c, false
		}
		return cell{version: c.version}, true
	}
	was := int64(0)
	if c.there {
		was, _ = strconv.ParseInt(c.value, 10, 64)
	}
	summand, _ := strconv.ParseInt(p.Value, 10, 64)
	after := c.later(fmt.Sprint(was + summand))
	if !known || p.Version == nil {
		return after, !known || after.value == p.ValueFound
	}
	good := after.value == p.ValueFound
	after, may := after.is(*p.Version)
	return after, good && may
}

func (p *part) put(c cell, known bool) (cell, bool) {
	after := c.later(p.Value)
	if !known {
		return after, true
	}
	return after.is(*p.Version)
}

// With a new value, of a version that is not known yet: higher than that of now.
func (c cell) later(value string) cell {
	after := cell{there: true, value: value, version: c.version}
	if c.there && !c.exact {
		after.version++
	}
	return after
}

// All parts of it, or nothing.
func step(state cells, parts keysIn, got keysOut) []interface{} {
	if !got.unknown && !got.done {
		return refused(state, parts)
	}
	after, mayNot, good := state, false, true
	for i := 0; i < len(parts) && good; i++ {
		held, may, not := parts[i].condition(after[parts[i].Key])
		mayNot = mayNot || not
		good = may
		if good {
			held, good = parts[i].apply(held, !got.unknown)
			after = after.with(parts[i].Key, held)
		}
	}
	states := []interface{}{}
	if good {
		states = append(states, after)
	}
	if got.unknown && mayNot {
		states = append(states, state)
	}
	return states
}

// The conditions of a request's keys, which are different ones, are of what was there before it.
func refused(state cells, parts keysIn) []interface{} {
	mayNot := false
	for i := range parts {
		was := state[parts[i].Key]
		_, _, not := parts[i].condition(was)
		if parts[i].Version == nil {
			mayNot = mayNot || not
			continue
		}
		seen, good := was.is(*parts[i].Version)
		_, _, not = parts[i].condition(seen)
		if !good || !not {
			return nil
		}
		mayNot = true
		if seen != was {
			state = state.with(parts[i].Key, seen)
		}
	}
	if !mayNot {
		return nil
	}
	return []interface{}{state}
}

var keysChoices = porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{cells{}} },
	Step: func(state, in, out interface{}) []interface{} { return step(state.(cells), in.(keysIn), out.(keysOut)) },
	Equal: func(one, other interface{}) bool {
		return one.(cells).equal(other.(cells))
	},
	DescribeOperation: describeKeys,
}

var keys = keysChoices.ToModel()

func describeKeys(in, out interface{}) string {
	got, texts := out.(keysOut), []string{}
	for _, p := range in.(keysIn) {
		text := p.Do + " " + p.Key
		if p.Value != "" {
			text += " " + p.Value
		}
		if p.If != "" {
			text += " if " + p.If
		}
		if p.If == "version" {
			text += fmt.Sprint(" ", p.Expect)
		}
		if !got.unknown && (p.Found || p.ValueFound != "") {
			text += " found " + p.ValueFound
		}
		if !got.unknown && p.Version != nil {
			text += fmt.Sprint(" version ", *p.Version)
		}
		texts = append(texts, text)
	}
	answer := "done"
	if got.unknown {
		answer = "unknown"
	} else if !got.done {
		answer = "refused"
	}
	return strings.Join(texts, ", ") + " -> " + answer
}

func (p *part) check(answered bool) error {
	number := p.Do != "add"
	if !number {
		_, err := strconv.ParseInt(p.Value, 10, 64)
		number = err == nil
	}
	switch {
	case p.Do != "get" && p.Do != "put" && p.Do != "delete" && p.Do != "add" || !number:
		return fmt.Errorf("no such part: %s %s", p.Do, p.Value)
	case p.If != "" && p.If != "absent" && p.If != "present" && p.If != "version":
		return fmt.Errorf("no condition \"%s\"", p.If)
	case answered && p.Version == nil && (p.Do == "put" || p.Do == "get" && p.Found):
		return fmt.Errorf("no version of %s", p.Key)
	}
	return nil
}

// Namely of a history's line; a get of which nothing is known says nothing.
func readKeys(h head, text []byte) (string, interface{}, interface{}, error) {
	var line struct {
		Group string
		Done  *bool
		Parts []part
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return "", nil, nil, err
	}
	if line.Group == "" {
		return "", nil, nil, nil
	}
	if len(line.Parts) == 0 || !h.unknown() && line.Done == nil {
		return "", nil, nil, fmt.Errorf("no parts, or not whether they were done")
	}
	out := keysOut{unknown: h.unknown(), done: line.Done != nil && *line.Done}
	reads := true
	for i := range line.Parts {
		if err := line.Parts[i].check(out.done && !out.unknown); err != nil {
			return "", nil, nil, err
		}
		reads = reads && line.Parts[i].Do == "get"
	}
	if out.unknown && reads {
		return "", nil, nil, nil
	}
	return line.Group, keysIn(line.Parts), out, nil
}
