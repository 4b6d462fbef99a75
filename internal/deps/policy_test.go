package deps_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A rule is one line of policy.txt.
type rule struct {
	line        int
	left, right []string
	op          string // "<", "!<" or "only"
	reason      string
}

// A policy is the rules of policy.txt, looked up by package. Packages of the
// module go by their path below its root.
type policy struct {
	allow map[string]rule // by package, or package_test
	never []rule
	only  map[string]rule // by module or package outside of this one
}

// parsePolicy reads the text of a policy. It demands a reason for each rule,
// and that what stands on a left side was defined before: so no rules can
// allow a cycle, and the file reads from the bottom layer to the top.
func parsePolicy(text string) (*policy, error) {
	p := &policy{allow: make(map[string]rule), only: make(map[string]rule)}
	rules, err := parseRules(text)
	if err != nil {
		return nil, err
	}
	// Tests may import what comes below them in the file, so all names are
	// needed before those rules are looked at.
	for _, r := range rules {
		if r.op == "<" {
			if err := p.define(r); err != nil {
				return nil, err
			}
		}
	}
	for _, r := range rules {
		var err error
		switch r.op {
		case "<":
			err = p.known(r, r.left)
		case "!<":
			if r.left, err = p.expand(r, r.left); err == nil {
				r.right, err = p.expand(r, r.right)
			}
			p.never = append(p.never, r)
		case "only":
			r.right, err = p.expand(r, r.right)
			for _, name := range r.left {
				if old, ok := p.only[name]; ok {
					return nil, fmt.Errorf("policy.txt:%d: %s has a rule at line %d already", r.line, name, old.line)
				}
				p.only[name] = r
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func parseRules(text string) ([]rule, error) {
	var rules []rule
	var reason []string
	ruled := false // the comment has a rule, so that the next comment starts anew
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			reason, ruled = nil, false
			continue
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if ruled {
				reason, ruled = nil, false
			}
			reason = append(reason, strings.TrimSpace(comment))
			continue
		}
		r := rule{line: i + 1, reason: strings.Join(reason, " ")}
		if r.reason == "" {
			return nil, fmt.Errorf("policy.txt:%d: a rule without a reason above it", r.line)
		}
		for _, word := range strings.FieldsFunc(line, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
			switch {
			case word == "<" || word == "!<" || word == "only":
				if r.op != "" {
					return nil, fmt.Errorf("policy.txt:%d: two relations in one rule", r.line)
				}
				r.op = word
			case word == "NONE":
			case r.op == "":
				r.left = append(r.left, word)
			default:
				r.right = append(r.right, word)
			}
		}
		if r.op == "" {
			return nil, fmt.Errorf("policy.txt:%d: neither <, !< nor only", r.line)
		}
		rules, ruled = append(rules, r), true
	}
	return rules, nil
}

// define takes a rule of the kind a < b into the policy.
func (p *policy) define(r rule) error {
	for _, name := range r.right {
		if old, ok := p.allow[name]; ok {
			return fmt.Errorf("policy.txt:%d: %s has a rule at line %d already", r.line, name, old.line)
		}
		if of, ok := strings.CutSuffix(name, "_test"); ok {
			if _, ok := p.allow[of]; !ok {
				return fmt.Errorf("policy.txt:%d: tests of %s, which has no rule above", r.line, of)
			}
		} else {
			for _, l := range r.left {
				if _, ok := p.allow[l]; !ok {
					return fmt.Errorf("policy.txt:%d: %s may import %s, which has no rule above", r.line, name, l)
				}
			}
		}
		p.allow[name] = r
	}
	return nil
}

// known says whether all names have rules of their own.
func (p *policy) known(r rule, names []string) error {
	for _, name := range names {
		if _, ok := p.allow[strings.TrimSuffix(name, "_test")]; !ok {
			return fmt.Errorf("policy.txt:%d: there is no rule for %s", r.line, name)
		}
	}
	return nil
}

// expand replaces x/... by x and all packages below it.
func (p *policy) expand(r rule, names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		root, ok := strings.CutSuffix(name, "/...")
		if !ok {
			if err := p.known(r, []string{name}); err != nil {
				return nil, err
			}
			out = append(out, name)
			continue
		}
		for pkg := range p.allow {
			if (pkg == root || strings.HasPrefix(pkg, root+"/")) && !strings.HasSuffix(pkg, "_test") {
				out = append(out, pkg)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// contradictions returns what the policy allows against its own !< rules,
// directly or through other packages.
func (p *policy) contradictions() []string {
	var out []string
	for _, r := range p.never {
		for _, to := range r.right {
			below := p.below(to)
			for _, from := range r.left {
				if path, ok := below[from]; ok && from != to {
					out = append(out, fmt.Sprintf("policy.txt:%d: the rules let %s import %s (%s): %s", r.line, to, from, path, r.reason))
				}
			}
		}
	}
	return out
}

// below returns the packages that pkg may import, also through others, each with
// the way to it.
func (p *policy) below(pkg string) map[string]string {
	ways := map[string]string{pkg: pkg}
	for queue := []string{pkg}; len(queue) > 0; queue = queue[1:] {
		for _, l := range p.allow[queue[0]].left {
			if _, ok := ways[l]; !ok {
				ways[l] = ways[queue[0]] + " -> " + l
				queue = append(queue, l)
			}
		}
	}
	return ways
}

// check returns what is wrong with the imports of a module's packages.
func (p *policy) check(module string, packages map[string]imports) []string {
	var out []string
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		if _, ok := p.allow[pkg]; !ok {
			out = append(out, fmt.Sprintf("%s has no rule in policy.txt: say there what it may import, and why", pkg))
			continue
		}
		out = append(out, p.checkPackage(module, pkg, packages[pkg])...)
	}
	for _, pkg := range slices.Sorted(maps.Keys(p.allow)) {
		if _, ok := packages[strings.TrimSuffix(pkg, "_test")]; !ok {
			out = append(out, fmt.Sprintf("policy.txt:%d: there is no package %s: remove its rule", p.allow[pkg].line, pkg))
		}
	}
	return out
}

func (p *policy) checkPackage(module, pkg string, imp imports) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(imp)) {
		file := imp[path]
		test := strings.HasSuffix(file, "_test.go")
		if own, ok := strings.CutPrefix(path, module+"/"); ok {
			allow := p.allow[pkg]
			fine := slices.Contains(allow.left, own)
			if test {
				fine = fine || own == pkg || slices.Contains(p.allow[pkg+"_test"].left, own)
			}
			if !fine {
				out = append(out, fmt.Sprintf("%s imports %s, which policy.txt:%d does not allow: %s", file, own, allow.line, allow.reason))
			}
			continue
		}
		r, ok := p.outside(path)
		std := !strings.Contains(strings.Split(path, "/")[0], ".")
		switch {
		case std && test:
		case !ok && !std:
			out = append(out, fmt.Sprintf("%s imports %s, a module without a rule in policy.txt: say there who may import it, and why it is worth having", file, path))
		case ok && !slices.Contains(r.right, pkg) && !(test && slices.Contains(r.right, pkg+"_test")):
			out = append(out, fmt.Sprintf("%s imports %s, which policy.txt:%d leaves to %s: %s", file, path, r.line, names(r.right), r.reason))
		}
	}
	return out
}

// outside finds the rule for a package of another module, which may name the
// package or anything above it, or of the standard library, which names the
// package itself.
func (p *policy) outside(path string) (rule, bool) {
	r, ok := p.only[path]
	for at := path; !ok && strings.Contains(path, "."); {
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			break
		}
		at = at[:i]
		r, ok = p.only[at]
	}
	return r, ok
}

func names(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}
