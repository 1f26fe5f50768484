package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Vulnerability is a fault of PostgreSQL by which one tenant can reach another's rows, or the whole server.
type Vulnerability struct {
	CVE   string
	Risk  string      // what can happen, in one clause
	fixed map[int]int // major version → the first minor release without it; none: that version never had it
}

// vulnerabilities are those of row-level security, and the one that ends every model, in the majors that landlord works with. Policies
// that name no role make three of them hard to reach, which is no reason to keep them.
var vulnerabilities = []Vulnerability{
	{"CVE-2023-2455", "row security forgets that the user has changed, once a function is inlined", map[int]int{15: 3}},
	{"CVE-2023-39418", "MERGE passes by the policies for UPDATE and SELECT", map[int]int{15: 4}},
	{"CVE-2024-10976", "row security below subqueries and views forgets that the role has changed", map[int]int{15: 9, 16: 5, 17: 1}},
	{"CVE-2025-8713", "the planner's statistics show values of rows that policies hide", map[int]int{15: 14, 16: 10, 17: 6}},
	{"CVE-2026-14666", "cached plans keep showing rows after a role has lost the right to them", map[int]int{15: 19, 16: 15, 17: 11, 18: 6}},
	{"CVE-2026-14680", "any login can run code as the server's user", map[int]int{15: 19, 16: 15, 17: 11, 18: 6}},
}

// Vulnerabilities returns what is known of a server by its server_version_num, such as 150018, and the oldest release of its major
// version that has none of it. The release is empty where nothing is known.
func Vulnerabilities(version int) (known []Vulnerability, release string) {
	major, minor := version/10000, version%10000
	newest := 0
	for _, v := range vulnerabilities {
		if first := v.fixed[major]; minor < first {
			known = append(known, v)
			newest = max(newest, first)
		}
	}
	if newest > 0 {
		release = fmt.Sprintf("%d.%d", major, newest)
	}
	return known, release
}

// fixedReleases are, as rows of SQL, the releases of each major version that have all fixes.
func fixedReleases() string {
	newest := map[int]int{}
	for _, v := range vulnerabilities {
		for major, minor := range v.fixed {
			newest[major] = max(newest[major], minor)
		}
	}
	var rows []string
	for _, major := range slices.Sorted(maps.Keys(newest)) {
		rows = append(rows, fmt.Sprintf("(%d, %d, '%[1]d.%[3]d')", major, major*10000+newest[major], newest[major]))
	}
	return strings.Join(rows, ", ")
}
