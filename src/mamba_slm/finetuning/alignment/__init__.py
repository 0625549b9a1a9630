"""Training on preferences and rewards: DPO, IPO, KTO, ORPO, SimPO, reward models, GRPO."""
