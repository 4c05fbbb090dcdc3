"""``siamese-np reproduce``: the accuracy figures of the README, table by table, from training anew."""
