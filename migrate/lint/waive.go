package lint

// waive marks what the file's waivers allow, and reports waivers that allow nothing.
func (l *linter) waive() {
	broken := map[string][]int{}
	for i, f := range l.found {
		broken[f.Rule] = append(broken[f.Rule], i)
	}
	for _, w := range l.file.Waivers {
		if _, known := byName[w.Rule]; !known {
			l.add("unknown-waiver", w.Line, "", "{rule}", w.Rule)
			continue
		}
		if isTraced(w.Rule) && !l.wasTraced() {
			continue // whether anything breaks it is not known
		}
		used, why := false, "nothing in the file breaks that rule"
		for _, i := range broken[w.Rule] {
			f := &l.found[i]
			if f.refused {
				why = "such a file is refused whatever it says of itself"
				continue
			}
			f.Waived, f.Reason, used = true, w.Reason, true
		}
		if !used {
			l.add("unused-waiver", w.Line, "", "{rule}", w.Rule, "{why}", why)
		}
	}
}
