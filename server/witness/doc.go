// Package witness makes the log's tree heads public: it signs checkpoints, keeps them where the database's operator
// cannot quietly take them back, and has them cosigned by others who saw the log grow.
//
// A checkpoint is published when the quorum of witnesses has cosigned it, it is in the sink, and then on record, in this
// order. Nothing is published that is not consistent with what was: before each publication the tree must still have
// the root of the newest checkpoint on record and of the newest one in the sink, and the sink must have what is newest
// on record. A tree that is behind them, as after a database was restored from a backup, that has another
// root at their size, or a sink that was emptied, is refused until a person has looked at it.
//
// Without a quorum nobody waits for witnesses: their cosignatures are put on record when they come. Whoever needs some
// for one checkpoint waits alone, see [Publisher.PublishCosigned].
package witness
