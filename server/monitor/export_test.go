package monitor

// Work says how often openings were asked for, and how many versions of a roster were read, proofs looked at and rules judged.
func (m *Monitor) Work() (openings, versions, proofs, rules int) {
	return m.work.openings, m.work.versions, m.work.proofs, m.work.rules
}
