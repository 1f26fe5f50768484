package drift

// Pages divides homes into pages of so many, as a check does, and returns those of each page.
func Pages(results []*Result, size int) (all [][]*Result) {
	for _, here := range pages(results, size) {
		all = append(all, here)
	}
	return all
}
